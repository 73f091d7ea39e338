/**
 * Who may say what: whom the receiver has blocked, who is muted, and who did not write what he recalls or edits is refused, and nothing
 * of it is stored. Mutes stand in the log of the group; a block counts between the answer to it and the question for its end.
 */
import { isGroup, peerOf } from '../../broker/topics.js'
import type { EventOf, History, SendRecord } from '../history.js'
import type { Report } from '../verdict.js'
import type { Entry, World } from './world.js'

interface Block {
  user: string
  peer: string
  from: number
  to: number
}

export function checkRules(history: History, world: World, report: Report): void {
  checkBlocks(history, world, report)
  for (const [conv, entries] of world.log) {
    const muted = new Set<string>()
    let owner = ''
    for (const entry of entries) {
      if (entry === undefined) continue
      if (entry.type === 'system') {
        const { event, user, users } = entry.body as { event: string; user?: string; users?: string[] }
        if (event === 'created') owner = users?.[0] ?? ''
        else if (event === 'muted' && user !== undefined) muted.add(user)
        else if (event === 'unmuted' && user !== undefined) muted.delete(user)
        continue
      }
      if (muted.has(entry.from) && entry.type !== 'recall') report('unlawful', `${conv} ${entry.seq} is of ${entry.from}, who was muted`)
      const target = entries[(entry.body as { seq?: number }).seq ?? 0]
      const isOwn = target?.from === entry.from
      if (entry.type === 'edit' ? !isOwn : entry.type === 'recall' && !isOwn && entry.from !== owner)
        report('unlawful', `${conv} ${entry.seq} is a ${entry.type} by ${entry.from} of ${target?.seq ?? 'nothing'}, which is not his`)
    }
  }
}

function blocksOf({ blocks }: Pick<History, 'blocks'>): Block[] {
  const ended = ({ user, peer, doneAt }: EventOf<'block'>): number =>
    blocks.find((end) => !end.isOn && end.user === user && end.peer === peer && end.at > doneAt)?.at ?? Number.POSITIVE_INFINITY
  return blocks
    .filter(({ isOn, isDone }) => isOn && isDone === true)
    .map((block) => ({ user: block.user, peer: block.peer, from: block.doneAt, to: ended(block) }))
}

/** What was sent first while the block stood, and acked before it ended, was stored against it. */
function checkBlocks(history: History, world: World, report: Report): void {
  const blocks = blocksOf(history)
  if (blocks.length === 0) return
  // Another node may take a while to hear of it, unless it was there before anybody.
  const since = (history.run.nodes ?? 1) > 1 ? (history.connections[0]?.upAt ?? 0) : Number.POSITIVE_INFINITY
  const byPair = new Map<string, Block[]>()
  for (const block of blocks) {
    if (block.from >= since) continue
    const key = `${block.user} ${block.peer}`
    byPair.set(key, [...(byPair.get(key) ?? []), block])
  }
  for (const [conv, entries] of world.log) {
    if (isGroup(conv)) continue
    for (const entry of entries) {
      if (entry === undefined || entry.sends.length === 0) continue
      const own = byPair.get(`${peerOf(conv, entry.from)} ${entry.from}`) ?? []
      if (own.some((block) => isAgainst(block, entry)))
        report('unlawful', `${conv} ${entry.seq} is of ${entry.from}, whom ${peerOf(conv, entry.from)} had blocked`)
    }
  }
}

const isAgainst = ({ from, to }: Block, { sends }: Entry): boolean =>
  sends.every(({ at }) => at > from) && (to === Number.POSITIVE_INFINITY || sends.some(({ acks }) => acks.some(({ at }) => at < to)))

/** Whether a member can have been refused so. */
export function isTrueRefusal(code: string, { conv, user, act }: SendRecord, world: World): boolean {
  if (code === 'blocked') return !isGroup(conv) && world.wasBlocked(peerOf(conv, user), user)
  if (code === 'muted') return world.wasMuted(conv, user)
  if (act === undefined || (code !== 'forbidden' && code !== 'invalid' && code !== 'not_found')) return false
  const target = world.log.get(conv)?.[act.seq]
  // Of one's own message everything but a late recall is right; of a message of others, a reaction.
  return target?.type !== 'text' || (target.from !== user && act.type !== 'reaction')
}

/** A refusal of plain text names no id, so nobody knows which message it was. */
export const isUntoldRefusal = (send: SendRecord, world: World): boolean =>
  send.id === undefined && (isTrueRefusal('blocked', send, world) || isTrueRefusal('muted', send, world))
