/**
 * A copy for what is kept for long, in memory of its own. Bytes that are cut from Node's pool (256 KB, see cli.ts) or from a larger packet keep
 * all of that: a thousand small messages, each from another pool, would hold 256 MB.
 */
export function keptCopy(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}
