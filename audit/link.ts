/** One connection of a virtual client while it lasts, and how a delivered message is told from its bytes. */
import { type ConversationId, conversationOf } from '../broker/topics.js'
import type { Runs } from './history.js'
import { PacketReader } from './packets.js'
import type { Pipe } from './pipe.js'

/** What a connection has brought; written down when it ends. */
export interface Connection {
  number: number
  readonly pipe: Pipe
  reader: PacketReader
  isUp: boolean
  isReady: boolean
  /** This side has broken it off; what is withheld stays so. */
  isBroken: boolean
  before: Runs
  after: Runs
  withheld: { packetId: number; message: [ConversationId, number] | undefined }[]
}

export const newConnection = (pipe: Pipe): Connection => ({
  number: -1,
  pipe,
  reader: new PacketReader(),
  isUp: false,
  isReady: false,
  isBroken: false,
  before: {},
  after: {},
  withheld: [],
})

/** A stored message begins with its seq. */
export function seqOf(payload: Buffer): number {
  let seq = 0
  for (let at = 7; at < payload.length; at++) {
    const digit = (payload[at] as number) - 48
    if (digit < 0 || digit > 9) break
    seq = seq * 10 + digit
  }
  return seq
}

/** The conversation of a direct message: its topic names only the receiver. */
export function directOf(topic: string, payload: Buffer): ConversationId {
  const { from, to } = JSON.parse(payload.toString()) as { from: string; to: string }
  return conversationOf(`u/${from}`, to) ?? topic
}
