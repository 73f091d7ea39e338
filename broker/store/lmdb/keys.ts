/**
 * The keys of the LMDB tables. Parts that vary in length end with a zero byte, which no user, group, device or
 * conversation contains; what can contain one (a message id) stands last. A key is written into a buffer that the
 * next key overwrites: LMDB copies it at once.
 */
import type { ConversationId } from '../../topics.js'
import { ByteWriter } from './bytes.js'

const keyBytesMax = 1978
const separator = 0

/** The first byte of a key part that is not ASCII: no ASCII part begins with it. */
const wideMark = 0xff

/** Fields of a row of `rows`; a user's rows of one conversation are neighbours. */
export const rowField = { membership: 0, read: 1, sent: 2 } as const
export type RowField = (typeof rowField)[keyof typeof rowField]

function part(key: ByteWriter, text: string): void {
  if (key.ascii(text)) return
  key.u8(wideMark).wide(text)
}

const chunkKeyWriter = new ByteWriter(keyBytesMax)
const boundKeyWriter = new ByteWriter(keyBytesMax)
const sentKeyWriter = new ByteWriter(keyBytesMax)
const plainKeyWriter = new ByteWriter(keyBytesMax)

/** chunks: conversation, last seq, time of the last entry. The first key not below (conv, n) is that of the chunk with n. */
export function chunkKey(conv: ConversationId, lastSeq: number, lastTs: number): Buffer {
  const key = chunkKeyWriter.reset()
  part(key, conv)
  return key.u8(separator).u48(lastSeq).u48(lastTs).view()
}

/** Above all chunks of the conversation. */
export function chunksEnd(conv: ConversationId): Buffer {
  const key = boundKeyWriter.reset()
  part(key, conv)
  return key.u8(separator + 1).view()
}

const chunkTailBytes = 12

/** Whether the key is of the same conversation as this `chunksEnd`. */
export const isChunkBelow = (key: Buffer, end: Buffer): boolean =>
  key.length === end.length + chunkTailBytes &&
  key[end.length - 1] === separator &&
  end.compare(key, 0, end.length - 1, 0, end.length - 1) === 0

export const lastSeqOf = (key: Buffer): number => key.readUIntBE(key.length - chunkTailBytes, 6)
export const lastTsOf = (key: Buffer): number => key.readUIntBE(key.length - 6, 6)

/** sent: conversation, sender, message id. */
export function sentKey(conv: ConversationId, from: string, id: string): Buffer {
  const key = sentKeyWriter.reset()
  part(key, conv)
  part(key.u8(separator), from)
  part(key.u8(separator), id)
  return key.view()
}

/** Keys of the same conversation one after the other: the conversation is written once. */
export function sentKeysOf(conv: ConversationId): (from: string, id: string) => Buffer {
  const key = sentKeyWriter.reset()
  part(key, conv)
  const start = key.u8(separator).position
  return (from, id) => {
    key.position = start
    part(key, from)
    part(key.u8(separator), id)
    return key.view()
  }
}

/** Texts with separators between them: the key of everything that is not a log. */
export function plainKey(...texts: string[]): Buffer {
  const key = plainKeyWriter.reset()
  for (const [at, text] of texts.entries()) {
    if (at > 0) key.u8(separator)
    part(key, text)
  }
  return key.view()
}

/** The range of all keys that begin with these texts and a separator. */
export function plainRange(...texts: string[]): { start: Buffer; end: Buffer } {
  const start = Buffer.from(plainKey(...texts, ''))
  const end = Buffer.from(start)
  end[end.length - 1] = separator + 1
  return { start, end }
}

/** The separator and the field behind the conversation. */
export const rowTailBytes = 2

export function rowKey(user: string, conv: ConversationId, field: RowField): Buffer {
  plainKey(user, conv, '')
  return plainKeyWriter.u8(field).view()
}

/** The texts of a plain key, the last one without what follows it. */
export const textsOf = (key: Buffer): string[] => key.toString('latin1').split('\0')
