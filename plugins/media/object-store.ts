/** Where the bytes of media are: files beside the embedded store, or a bucket of an S3 API. Both pass the same tests. */
import type { Readable } from 'node:stream'

/** Names an object for ever. */
export interface ObjectName {
  id: string
  /** Hex, of all bytes. */
  sha256: string
}

/** Both ends inclusive. */
export interface ByteRange {
  first: number
  last: number
}

export interface ObjectStore {
  /**
   * Takes a complete, synced file over; it may be gone afterwards. Durable when it resolves; it may be repeated. Rejects with
   * StoreUnavailable when it cannot be kept now.
   */
  put(name: ObjectName, path: string, size: number): Promise<void>
  /** The bytes of the range; rejects with StoreUnavailable when they cannot be read now. Destroying the stream ends the reading. */
  read(name: ObjectName, range: ByteRange): Promise<Readable>
  /** What is not there is removed. */
  remove(name: ObjectName): Promise<void>
}
