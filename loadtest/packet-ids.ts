/** The packet ids of one client's sends that have no PUBACK yet. Small for a client that sends little, since there are many. */

const idsAtFirst = 32
const growth = 4

export class PacketIds {
  /** Sends without PUBACK. */
  claimed = 0
  /** PUBACKs for ids that were not claimed. */
  strays = 0
  #used: Uint8Array = new Uint8Array(0)
  #last = 0

  /** Ids are below `limit`; at most a quarter of them may be claimed at a time. */
  constructor(readonly limit: number) {}

  claim(): number {
    // A quarter is claimed at most, so that a free id is soon found and none is taken again at once.
    if (this.claimed * growth >= this.#used.length) this.#grow()
    let id = this.#last
    do id = id + 1 >= this.#used.length ? 1 : id + 1
    while (this.#used[id] === 1)
    this.#used[id] = 1
    this.#last = id
    this.claimed++
    return id
  }

  /** False when the id was not claimed. */
  release(id: number): boolean {
    if (this.#used[id] !== 1) {
      this.strays++
      return false
    }
    this.#used[id] = 0
    this.claimed--
    return true
  }

  #grow(): void {
    const size = Math.min(this.limit, Math.max(idsAtFirst, this.#used.length * growth))
    if (this.claimed >= size - 1) throw new Error(`${this.claimed} sends without PUBACK: there are no more packet ids`)
    if (size === this.#used.length) return
    const used = new Uint8Array(size)
    used.set(this.#used)
    this.#used = used
  }
}
