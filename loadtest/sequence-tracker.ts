/**
 * The bookkeeping that proves that nothing was lost. A SequenceTracker takes the numbers 0, 1, 2 … in the order in which
 * they arrive and tells lost, duplicate and late ones apart; a SeqLedger does it for the `seq` of a conversation, of which
 * one session sees a part as deliveries and the other part, its own messages, as acks.
 */

/** Numbers listed as missing at one time; a gap beyond it is counted as lost at once. */
export const missingMax = 100_000

export class SequenceTracker {
  #next = 0
  #missing: Set<number> | undefined
  #forgotten = 0
  duplicates = 0
  /** Numbers that came after a higher one. */
  outOfOrder = 0

  /** How many different numbers have arrived. */
  get received(): number {
    return this.#next - (this.#missing?.size ?? 0) - this.#forgotten
  }

  record(number: number): void {
    if (number === this.#next) this.#next++
    else if (number > this.#next) this.#skipTo(number)
    else if (this.#missing?.delete(number)) this.outOfOrder++
    else this.duplicates++
  }

  /** How many of the first `sent` numbers have not arrived. */
  lost(sent: number): number {
    return Math.max(0, sent - this.#next) + (this.#missing?.size ?? 0) + this.#forgotten
  }

  /** The lowest number that has not arrived. */
  firstMissing(): number {
    const [first] = this.#missing ?? []
    return first ?? this.#next
  }

  #skipTo(number: number): void {
    this.#missing ??= new Set()
    for (let n = this.#next; n < number; n++) {
      if (this.#missing.size < missingMax) this.#missing.add(n)
      else {
        this.#forgotten += number - n
        break
      }
    }
    this.#next = number + 1
  }
}

/** Checks that the `seq`s seen by one session in one conversation are each there once, in constant memory. */
export class SeqLedger {
  #count = 0
  #sum = 0
  #min = Number.POSITIVE_INFINITY
  #max = 0
  #lastDelivered = 0
  /** Deliveries whose `seq` was not above that of the delivery before. */
  notIncreasing = 0
  /** Deliveries and acks without a `seq`. */
  withoutSeq = 0

  delivered(seq: number): void {
    if (seq <= this.#lastDelivered) this.notIncreasing++
    else this.#lastDelivered = seq
    this.own(seq)
  }

  /** The `seq` of an own message, learnt from its ack; it may arrive before or after deliveries with a higher one. */
  own(seq: number): void {
    if (seq < 1) {
      this.withoutSeq++
      return
    }
    this.#count++
    this.#sum += seq
    if (seq < this.#min) this.#min = seq
    if (seq > this.#max) this.#max = seq
  }

  /** True when the `seq`s seen are exactly lowest…highest, each once (by number and sum). */
  isComplete(): boolean {
    if (this.#count === 0) return true
    return this.#count === this.#max - this.#min + 1 && this.#sum === ((this.#min + this.#max) * this.#count) / 2
  }

  describe(): string {
    return `${this.#count} values between ${this.#min} and ${this.#max}`
  }
}
