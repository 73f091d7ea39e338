/**
 * Of each session the last sends without id, as text that grows from send to send: `$max` keeps the latest, whoever applies which
 * segment when. So a segment that is applied late, by a node that was stopped for a while, does not take the place of a later send.
 */
import type { ConversationId } from '../../topics.js'
import type { ConversationAppend, StoredRetransmit } from '../store.js'
import { pairId, type RetransmitDocument } from './collections.js'

/** A send without id is remembered for so many packet ids of a session. */
const retransmitsMax = 256
const digits = 16

export const retransmitId = (session: string, packetId: number): string => pairId(session, String(packetId % retransmitsMax))

const sortable = (number: number): string => String(number).padStart(digits, '0')

export function encodeLastSend(retransmit: ConversationAppend['retransmits'][number], conv: ConversationId, ts: number): string {
  const { packetId, digest, epoch, order, seq } = retransmit
  return `${sortable(epoch)} ${sortable(order)} ${JSON.stringify({ packetId, digest, conv, seq, ts })}`
}

export function decodeLastSend({ session, last }: RetransmitDocument): StoredRetransmit {
  const rest = JSON.parse(last.slice(2 * digits + 2)) as Omit<StoredRetransmit, 'session' | 'epoch'>
  return { session, epoch: Number(last.slice(0, digits)), ...rest }
}

/** All of connects up to this one: what of the same session `last` is below. */
export const behindEpoch = (epoch: number): string => sortable(Math.min(epoch + 1, Number.MAX_SAFE_INTEGER))
