/** Small sets of hashes of (sender, message id): one that is not there was never added, one that is there may be another's. */
const slotsMin = 16
const asciiMax = 127
/** As in the keys: begins a part that is not ASCII. */
const wideMark = 0xff
const hashStart = 0x811c9dc5
const hashPrime = 0x01000193

const mix = (hash: number, byte: number): number => Math.imul(hash ^ byte, hashPrime)

function mixPart(hash: number, text: string): number {
  let mixed = hash
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > asciiMax) return mixWide(hash, text)
    mixed = mix(mixed, code)
  }
  return mixed
}

function mixWide(hash: number, text: string): number {
  let mixed = mix(hash, wideMark)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    mixed = mix(mix(mixed, code & 0xff), code >> 8)
  }
  return mixed
}

/** Never 0, which marks an empty slot. */
const finish = (hash: number): number => (hash ^ (hash >>> 15)) >>> 0 || 1

export const hashOfId = (from: string, id: string): number => finish(mixPart(mix(mixPart(hashStart, from), 0), id))

/** The same from a key of the index, whose conversation ends before `start`. */
export function hashOfKey(key: Buffer, start: number): number {
  let hash = hashStart
  for (let i = start; i < key.length; i++) hash = mix(hash, key[i] as number)
  return finish(hash)
}

export class IdHashes {
  count = 0
  #slots = new Uint32Array(slotsMin)

  has(hash: number): boolean {
    const mask = this.#slots.length - 1
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const found = this.#slots[at]
      if (found === hash) return true
      if (found === 0) return false
    }
  }

  add(hash: number): void {
    if ((this.count + 1) * 2 > this.#slots.length) this.#grow()
    this.#put(hash)
  }

  #put(hash: number): void {
    const mask = this.#slots.length - 1
    let at = hash & mask
    while (this.#slots[at] !== 0) {
      if (this.#slots[at] === hash) return
      at = (at + 1) & mask
    }
    this.#slots[at] = hash
    this.count++
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new Uint32Array(old.length * 2)
    this.count = 0
    for (const hash of old) if (hash !== 0) this.#put(hash)
  }
}
