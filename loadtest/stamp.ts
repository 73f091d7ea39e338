/**
 * What a load message says, and how it is read back without a JSON parser. Each body starts with a stamp of fixed width: who
 * sent it, its number, and when. A template is patched for each send; the reader looks where it found the stamp the last time.
 */
import { encodePublish } from './frames.js'

/** Streams that a stamp can tell apart. */
export const streamsMax = 100_000
const tilde = 0x7e
const capitalL = 0x4c
const zero = 0x30
const senderDigits = 5
const numberDigits = 9
const timeDigits = 9
const timeModulus = 1e9

/** Bytes of the shortest body: the mark and the three fields. */
export const bodyBytesMin = 2 + senderDigits + numberDigits + timeDigits

/** Microseconds of the monotonic clock, modulo 1,000 s; comparable between the processes of one machine. */
export function stampNow(): number {
  return Math.floor(performance.now() * 1000 + clockOffset) % timeModulus
}

const [bootSeconds, nanos] = process.hrtime()
const clockOffset = (bootSeconds % 1000) * 1e6 + Math.floor(nanos / 1000) - Math.floor(performance.now() * 1000) + timeModulus

/** Microseconds from `sent` to `now`, both from stampNow; a message that seems to come from the future took no time. */
export function elapsedMicros(sent: number, now: number): number {
  const micros = (now - sent + timeModulus) % timeModulus
  return micros > timeModulus / 2 ? 0 : micros
}

/** Value of `width` decimal digits, -1 when one of them is not a digit. */
function readDigits(bytes: Uint8Array, at: number, width: number): number {
  let value = 0
  for (let i = at; i < at + width; i++) {
    const digit = (bytes[i] as number) - zero
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

function writeDigits(bytes: Uint8Array, at: number, width: number, value: number): void {
  let left = value
  for (let i = at + width - 1; i >= at; i--) {
    const next = (left / 10) | 0
    bytes[i] = zero + left - next * 10
    left = next
  }
}

/** True when `sent` is not before `mark`; both lie less than 500 s apart. */
export const isSince = (mark: number, sent: number): boolean => (sent - mark + timeModulus) % timeModulus < timeModulus / 2

/** The stamp `micros` after another one. */
export const stampAfter = (stamp: number, micros: number): number => (stamp + Math.round(micros)) % timeModulus

/** The messages of one sender to one topic, numbered from 0. The id numbered 17 is `c000000017`. */
export class MessageTemplate {
  readonly #frame: Buffer
  readonly #idAt: number
  readonly #bodyAt: number
  readonly #packetIdAt: number

  constructor(topic: string, sender: number, bodyBytes: number) {
    const id = `c${'0'.repeat(numberDigits)}`
    const body = `~L${String(sender).padStart(senderDigits, '0')}`.padEnd(bodyBytesMin, '0').padEnd(bodyBytes, 'x')
    const payload = Buffer.from(JSON.stringify({ id, type: 'text', body }))
    this.#frame = encodePublish(topic, 0, payload)
    const payloadAt = this.#frame.length - payload.length
    this.#packetIdAt = payloadAt - 2
    this.#idAt = payloadAt + payload.indexOf(id) + 1
    this.#bodyAt = payloadAt + payload.indexOf('~L') + 2 + senderDigits
  }

  get bytes(): number {
    return this.#frame.length
  }

  /** Writes message `number` at `at` and returns where it ends. `idNumber` differs from it where one sender has several topics. */
  write(target: Buffer, at: number, number: number, packetId: number, now: number, idNumber: number = number): number {
    const frame = this.#frame
    frame[this.#packetIdAt] = packetId >> 8
    frame[this.#packetIdAt + 1] = packetId & 255
    writeDigits(frame, this.#idAt, numberDigits, idNumber)
    writeDigits(frame, this.#bodyAt, numberDigits, number)
    writeDigits(frame, this.#bodyAt + numberDigits, timeDigits, now)
    target.set(frame, at)
    return at + frame.length
  }
}

const seqMark = Buffer.from('"seq":')
const idMark = Buffer.from('"id":"c')

/** A field's place in payloads of one kind, remembered from the last one. `at` counts from the payload's start or, if negative, its end. */
class Place {
  #at = 0

  constructor(
    readonly mark: Buffer,
    readonly from: 'start' | 'end',
  ) {}

  /** Index of the first byte after the mark, -1 when the payload does not have it. */
  find(bytes: Buffer, start: number, end: number): number {
    const likely = (this.from === 'start' ? start : end) + this.#at
    if (likely >= start && this.#isAt(bytes, likely, end)) return likely + this.mark.length
    const found = bytes.subarray(start, end).indexOf(this.mark)
    if (found === -1) return -1
    this.#at = this.from === 'start' ? found : start + found - end
    return start + found + this.mark.length
  }

  #isAt(bytes: Buffer, at: number, end: number): boolean {
    const mark = this.mark
    if (at + mark.length > end) return false
    for (let i = 0; i < mark.length; i++) if (bytes[at + i] !== mark[i]) return false
    return true
  }
}

/** Index of the first byte from `at` on that is not a digit, at most `end`. */
function skipDigits(bytes: Buffer, at: number, end: number): number {
  let i = at
  while (i < end && (bytes[i] as number) >= zero && (bytes[i] as number) <= zero + 9) i++
  return i
}

/** Value of the digits from `at` on, -1 when there are none; `end` bounds it. */
function readNumber(bytes: Buffer, at: number, end: number): number {
  const width = skipDigits(bytes, at, end) - at
  return width === 0 ? -1 : readDigits(bytes, at, width)
}

/** Reads deliveries. The fields hold what the last `read` found. */
export class DeliveryReader {
  sender = 0
  number = 0
  sentAt = 0
  /** -1 when the payload has none. */
  seq = -1
  readonly #stamp = new Place(Buffer.from([0x22, tilde, capitalL]), 'end')
  readonly #seq = new Place(seqMark, 'start')

  constructor(readonly withSeq: 'seq' | 'no-seq') {}

  /** False when the payload is not a load message; `seq` is set all the same. */
  read(bytes: Buffer, start: number, end: number): boolean {
    if (this.withSeq === 'seq') {
      const seqAt = this.#seq.find(bytes, start, end)
      this.seq = seqAt === -1 ? -1 : readNumber(bytes, seqAt, end)
    }
    const at = this.#stamp.find(bytes, start, end)
    if (at === -1 || at + bodyBytesMin > end) return false
    this.sender = readDigits(bytes, at, senderDigits)
    this.number = readDigits(bytes, at + senderDigits, numberDigits)
    this.sentAt = readDigits(bytes, at + senderDigits + numberDigits, timeDigits)
    return this.sender !== -1 && this.number !== -1 && this.sentAt !== -1
  }
}

/** Reads the acks of sends. A positive ack has the length of its kind; whatever looks different is parsed as JSON. */
export class AckReader {
  number = 0
  seq = 0
  /** Why it is not a plain positive ack; undefined when it is one. */
  fault: string | undefined
  readonly #id = new Place(idMark, 'start')
  readonly #seq = new Place(seqMark, 'start')
  #plainTailBytes = -1

  /** False when it cannot be said which send it belongs to. */
  read(bytes: Buffer, start: number, end: number): boolean {
    const idAt = this.#id.find(bytes, start, end)
    this.number = idAt === -1 || idAt + numberDigits > end ? -1 : readDigits(bytes, idAt, numberDigits)
    const seqAt = this.#seq.find(bytes, start, end)
    this.seq = seqAt === -1 ? -1 : readNumber(bytes, seqAt, end)
    this.fault = undefined
    const tailBytes = seqAt === -1 ? -1 : end - skipDigits(bytes, seqAt, end)
    if (tailBytes === -1 || tailBytes !== this.#plainTailBytes) this.#inspect(bytes.toString('utf8', start, end), tailBytes)
    return this.number !== -1
  }

  #inspect(payload: string, tailBytes: number): void {
    const ack: unknown = JSON.parse(payload)
    const isObject = typeof ack === 'object' && ack !== null
    if (!isObject || 'error' in ack || !('seq' in ack)) this.fault = `refused: ${payload}`
    else if ('dup' in ack) this.fault = `answered as a repeat: ${payload}`
    else this.#plainTailBytes = tailBytes
  }
}
