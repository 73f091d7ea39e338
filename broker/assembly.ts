/**
 * The beginning of a packet whose end has not come yet. Appending costs what is appended, however small the pieces are, and it
 * holds at most twice what came; the connection, which bounds the length of a packet, owns one.
 */
export class Assembly {
  #buffer: Buffer | undefined
  #length = 0

  get length(): number {
    return this.#length
  }

  append(bytes: Buffer): void {
    const length = this.#length + bytes.length
    if (this.#buffer === undefined || length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(this.#buffer === undefined ? length : Math.max(length, this.#buffer.length * 2))
      this.#buffer?.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    bytes.copy(this.#buffer, this.#length)
    this.#length = length
  }

  /** All that was appended; it starts anew. */
  take(): Buffer {
    const taken = this.#buffer?.subarray(0, this.#length) ?? Buffer.alloc(0)
    this.#buffer = undefined
    this.#length = 0
    return taken
  }
}
