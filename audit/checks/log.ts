/**
 * The log itself (I1, I3, I4, I6): gap-free, each message once, as it was sent, by somebody who was in; whatever was
 * acknowledged stands in it where the ack says; what one session sent stands in the order in which it was sent.
 */
import { type ConversationId, groupConversation } from '../../broker/topics.js'
import type { History, SendRecord } from '../history.js'
import type { Report } from '../verdict.js'
import { isTrueRefusal, isUntoldRefusal } from './rules.js'
import { type Entry, nameOf, type World } from './world.js'

export function checkLog({ members }: History, world: World, report: Report): void {
  const seen = new Map<string, number>()
  for (const [conv, entries] of world.log) {
    let lastTs = 0
    for (let seq = 1; seq < entries.length; seq++) {
      const entry = entries[seq]
      if (entry === undefined) {
        report('gaps', `${conv} ${seq} cannot be read, though ${entries.length - 1} can`)
        continue
      }
      if (entry.seq !== seq) report('changed', `${conv} ${seq} says that its seq is ${entry.seq}`)
      if (entry.ts < lastTs) report('reordered', `the time of ${conv} ${seq} is before that of ${seq - 1}`)
      lastTs = entry.ts
      const key = `${conv} ${entry.from} ${entry.id}`
      const first = seen.get(key)
      if (first !== undefined) report('duplicated', `${conv} has ${entry.id} of ${entry.from} as ${first} and as ${seq}`)
      seen.set(key, seq)
      if (entry.type !== 'system') checkOrigin(conv, entry, world, report)
    }
  }
  checkMembers(members, world, report)
}

function checkOrigin(conv: ConversationId, entry: Entry, world: World, report: Report): void {
  const { seq, from, type, body, sends } = entry
  const [send] = sends
  if (send === undefined) return report('changed', `${conv} ${seq}: ${from} never sent ${nameOf(entry)}`)
  if (send.act !== undefined) {
    if (type !== send.act.type || (body as { seq: number }).seq !== send.act.seq)
      report('changed', `${conv} ${seq} is a ${type} of ${(body as { seq: number }).seq}; sent was a ${send.act.type} of ${send.act.seq}`)
  } else if (send.file !== undefined) {
    const { url } = body as { url?: string }
    if (type !== 'file' || url !== send.file) report('changed', `${conv} ${seq} is a ${type} of ${url}; sent was a file at ${send.file}`)
  } else if (String(body).length !== send.name.length + 1 + send.bytes) report('changed', `${conv} ${seq} has another length than was sent`)
  if (!world.mayRead(conv, from, seq)) report('leaked', `${conv} ${seq} was written by ${from}, who was not in it`)
}

/** A change of members that was answered is in the log. */
function checkMembers(members: History['members'], { log }: World, report: Report): void {
  for (const { group, change, users, isDone } of members) {
    if (isDone !== true || users.length === 0) continue
    const event = { create: 'created', add: 'added', remove: 'removed', leave: 'left' }[change]
    const isThere = (log.get(groupConversation(group)) ?? []).some((entry) => {
      const body = entry?.body as { event?: string; users?: string[] } | undefined
      return entry?.type === 'system' && body?.event === event && users.every((user) => body.users?.includes(user))
    })
    if (!isThere) report('lost', `the ${change} of ${users.join(', ')} in ${group} was confirmed and is not in its log`)
  }
}

export function checkSends({ sends }: History, world: World, report: Report): void {
  const stored = storedBySend(world)
  const settled = new Set<SendRecord>()
  for (const send of sends) {
    const name = `${send.conv} ${send.name} of ${send.user}/${send.device}`
    const seqs = stored.get(send) ?? []
    if (seqs.length > 1 && !settled.has(send)) report('duplicated', `${name} is stored as ${seqs.join(' and ')}`)
    settled.add(send)
    for (const { seq } of send.acks) {
      if (seqs.length === 0) report('lost', `${name} was acked as ${seq} and is not in the log`)
      else if (!seqs.includes(seq)) report('falsely acked', `${name} was acked as ${seq} and is ${seqs[0]}`)
    }
    if (send.acks.length === 0) checkWithoutAck(send, seqs, name, world, report)
  }
}

/** Refusals that are true at any time. */
const comesAndGoes = new Set(['busy', 'unavailable', 'rate_limited'])

/** The ack may have been lost with its connection, but PUBACK says that the server is done with it. */
function checkWithoutAck(send: SendRecord, seqs: readonly number[], name: string, world: World, report: Report): void {
  if (seqs.length > 0 && send.refusals.length > 0 && world.wasAlwaysIn(send.conv, send.user) && !isOfAnother(send, seqs, world))
    report('falsely acked', `${name} was refused (${send.refusals[0]}) and is stored as ${seqs[0]}`)
  if (!send.isPubacked || seqs.length > 0 || !world.wasAlwaysIn(send.conv, send.user)) return
  if (send.refusals.some((code) => isTrueRefusal(code, send, world)) || isUntoldRefusal(send, world)) return
  if (send.refusals.some((code) => comesAndGoes.has(code))) return
  if (send.refusals.length === 0) report('lost', `${name} got PUBACK and no refusal, and is not in the log`)
  else report('falsely acked', `${name} was refused (${send.refusals[0]}), though its sender was in all the time`)
}

/** Another session sent the same and was let in, when or where the sender was not blocked or muted. */
function isOfAnother(send: SendRecord, seqs: readonly number[], world: World): boolean {
  const isShared = seqs.some((seq) => world.log.get(send.conv)?.[seq]?.sends.some(({ acks }) => acks.length > 0))
  return isShared && send.refusals.every((code) => comesAndGoes.has(code) || isTrueRefusal(code, send, world))
}

function storedBySend({ log }: World): Map<SendRecord, number[]> {
  const stored = new Map<SendRecord, number[]>()
  for (const entries of log.values()) {
    for (const entry of entries) {
      for (const send of entry?.sends ?? []) {
        const seqs = stored.get(send)
        if (seqs === undefined) stored.set(send, [(entry as Entry).seq])
        else seqs.push((entry as Entry).seq)
      }
    }
  }
  return stored
}

/** Only where nothing was refused in between, and no other session may have been faster with the same message. */
export function checkSenderOrder({ sends }: History, world: World, report: Report): void {
  const stored = storedBySend(world)
  const sharing = new Map<string, number>()
  for (const { conv, user, name } of sends) sharing.set(`${conv} ${user} ${name}`, (sharing.get(`${conv} ${user} ${name}`) ?? 0) + 1)
  const last = new Map<string, { seq: number; name: string }>()
  for (const send of sends) {
    const { user, device, conv, name, refusals } = send
    // Sent again after the refusal, when its sender was not muted or blocked any more, it stands where it came then. The refusal may
    // have been lost with its connection.
    if (refusals.length > 0 || isTrueRefusal('blocked', send, world) || isTrueRefusal('muted', send, world)) continue
    if ((sharing.get(`${conv} ${user} ${name}`) ?? 0) > 1 || !world.wasAlwaysIn(conv, user)) continue
    const seq = stored.get(send)?.[0]
    if (seq === undefined) continue
    const session = `${user}/${device} in ${conv}`
    const before = last.get(session)
    if (before !== undefined && seq < before.seq)
      report('reordered', `${session} sent ${before.name} (${before.seq}) before ${name} (${seq})`)
    last.set(session, { seq, name })
  }
}
