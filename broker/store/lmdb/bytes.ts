/**
 * A cursor that writes into, and one that reads from, a buffer that is used again and again; the codec of keys and
 * chunks. Numbers are big-endian, so that keys sort by them. Texts are kept exactly, whatever code units they hold.
 */

const wideFlag = 0x8000

/** Bytes that `text` may take for a string of this many code units. */
export const textBytesMax = (codeUnits: number): number => 2 + 2 * codeUnits

const seqBytes = 6

/** A seq as the value of a row. */
export function encodeSeq(seq: number): Buffer {
  const value = Buffer.allocUnsafe(seqBytes)
  value.writeUIntBE(seq, 0, seqBytes)
  return value
}

export const decodeSeq = (value: Buffer): number => value.readUIntBE(0, seqBytes)

export class ByteWriter {
  bytes: Buffer
  position = 0
  /** By length; only for a writer whose buffer stays the same. */
  #views: Buffer[] = []

  constructor(bytes: number) {
    this.bytes = Buffer.allocUnsafeSlow(bytes)
  }

  /** Starts again at 0 with room for at least `bytes`; what was returned by `slice` earlier may be overwritten. */
  reset(bytes = 0): this {
    if (bytes > this.bytes.length) {
      this.bytes = Buffer.allocUnsafeSlow(bytes + (bytes >> 1))
      this.#views = []
    }
    this.position = 0
    return this
  }

  u8(value: number): this {
    this.bytes[this.position++] = value
    return this
  }

  u16(value: number): this {
    this.position = this.bytes.writeUInt16BE(value, this.position)
    return this
  }

  u32(value: number): this {
    this.position = this.bytes.writeUInt32BE(value, this.position)
    return this
  }

  /** An integer below 2^48: every seq, and every time until the year 10889. */
  u48(value: number): this {
    this.position = this.bytes.writeUIntBE(value, this.position, 6)
    return this
  }

  /** The characters alone, one byte each if all are ASCII; returns whether they were. Writes nothing otherwise. */
  ascii(text: string): boolean {
    const { bytes, position } = this
    let seen = 0
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      bytes[position + i] = code
      seen |= code
    }
    if (seen > 127) return false
    this.position = position + text.length
    return true
  }

  /** UTF-16 code units, so that a lone surrogate stays what it is. */
  wide(text: string): this {
    this.position += this.bytes.write(text, this.position, 'utf16le')
    return this
  }

  /** Length and characters; read back by `ByteReader.text`. */
  text(text: string): this {
    const start = this.position
    this.position += 2
    const narrow = this.ascii(text)
    if (!narrow) this.wide(text)
    this.bytes.writeUInt16BE(narrow ? text.length : text.length | wideFlag, start)
    return this
  }

  raw(source: Uint8Array): this {
    this.bytes.set(source, this.position)
    this.position += source.length
    return this
  }

  slice(from = 0): Buffer {
    return this.bytes.subarray(from, this.position)
  }

  /** All that was written since `reset`, in a view that is made once per length: for keys, of which there are many. */
  view(): Buffer {
    const known = this.#views[this.position]
    if (known !== undefined) return known
    const view = this.slice()
    this.#views[this.position] = view
    return view
  }
}

export class ByteReader {
  position = 0

  constructor(readonly bytes: Buffer) {}

  u8(): number {
    return this.bytes.readUInt8(this.position++)
  }

  u16(): number {
    this.position += 2
    return this.bytes.readUInt16BE(this.position - 2)
  }

  u32(): number {
    this.position += 4
    return this.bytes.readUInt32BE(this.position - 4)
  }

  u48(): number {
    this.position += 6
    return this.bytes.readUIntBE(this.position - 6, 6)
  }

  text(): string {
    const length = this.u16()
    const start = this.position
    if (length & wideFlag) {
      this.position += 2 * (length & ~wideFlag)
      return this.bytes.toString('utf16le', start, this.position)
    }
    this.position += length
    return this.bytes.toString('latin1', start, this.position)
  }

  skipText(): void {
    const length = this.u16()
    this.position += length & wideFlag ? 2 * (length & ~wideFlag) : length
  }

  raw(length: number): Buffer {
    this.position += length
    return this.bytes.subarray(this.position - length, this.position)
  }
}
