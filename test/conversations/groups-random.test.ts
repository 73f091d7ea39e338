/**
 * A group under random adds, removes, leaves, sends and reconnects, many at a time. Whatever order the server chose, everybody
 * must have seen exactly what he was a member for: the entries from the one that adds him to the one that removes him.
 */
import assert from 'node:assert/strict'
import t from 'tap'
import { type Actor, type Json, seeded, stage } from '../helper/stage.js'

const usersMax = 6
const rounds = 40
const perRound = 8

/** The seqs that a user may see, by the log itself. */
function visibleTo(user: string, log: readonly Json[]): number[] {
  const seqs: number[] = []
  let isIn = false
  for (const { seq, type, body } of log) {
    const { event = '', users = [] } = type === 'system' ? (body as { event: string; users?: string[] }) : {}
    if ((event === 'created' || event === 'added') && users.includes(user)) isIn = true
    if (isIn) seqs.push(seq as number)
    if ((event === 'removed' || event === 'left') && users.includes(user)) isIn = false
  }
  return seqs
}

async function wholeLog(owner: Actor): Promise<Json[]> {
  const log: Json[] = []
  for (;;) {
    const { messages } = await owner.calls<{ messages: Json[] }>('history', { conv: 'g/team', after: log.length, limit: 200 })
    if (messages.length === 0) return log
    log.push(...messages)
  }
}

/** A refusal is an answer too: who is in at that moment is not known here. */
const mayBeRefused = (promise: Promise<unknown>): Promise<unknown> =>
  promise.catch((error: Error) => assert.match(error.message, /forbidden/, error.message))

t.test('everybody’s view is what the membership rules say', async (t) => {
  const random = seeded(t)
  const s = await stage(t, { window: 8 })
  const owner = await s.actor('owner', { clean: false })
  const users = Array.from({ length: usersMax }, (_, at) => `user${at}`)
  const live = await Promise.all(users.map((user) => s.actor(user, { device: 'live' })))
  const coming = await Promise.all(users.map((user) => s.actor(user, { device: 'coming', clean: false })))
  await owner.calls('group.create', { group: 'team', members: users.slice(0, 2) })
  const seenByComing = coming.map(() => [] as number[])
  const collect = () => {
    for (const [at, actor] of coming.entries()) {
      for (const { conv, body } of actor.inbox.splice(0)) if (conv === 'g/team') seenByComing[at]?.push(body.seq as number)
    }
  }
  const act = (): Promise<unknown> => {
    const at = random.below(usersMax)
    const user = users[at] as string
    const dice = random.next()
    if (dice < 0.2) return owner.calls('group.add', { group: 'team', users: [user] })
    if (dice < 0.35) return owner.calls('group.remove', { group: 'team', users: [user] })
    if (dice < 0.42) return mayBeRefused((live[at] as Actor).calls('group.leave', { group: 'team' }))
    if (dice < 0.6) return owner.sends('g/team', `owner ${dice}`)
    return mayBeRefused((live[at] as Actor).sends('g/team', `${user} ${dice}`))
  }
  for (let round = 0; round < rounds; round++) {
    const work = Array.from({ length: perRound }, act)
    const actor = coming[random.below(usersMax)] as Actor
    if (actor.isConnected) work.push(random.next() < 0.5 ? actor.leaves() : actor.drops())
    else work.push(actor.returns())
    await Promise.all(work)
  }
  for (const actor of coming) if (!actor.isConnected) await actor.returns()
  await s.caughtUp()
  for (const actor of coming) await actor.calls('conversations', { limit: 1 })
  collect()
  const log = await wholeLog(owner)
  t.strictSame(
    log.map(({ seq }) => seq),
    log.map((_, at) => at + 1),
    `${log.length} entries without a gap`,
  )
  for (const [at, user] of users.entries()) {
    const wanted = visibleTo(user, log)
    for (const seq of wanted) {
      const message = log[seq - 1] as Json
      if (message.from === user && message.type !== 'system') continue
      await (live[at] as Actor).receives({ conv: 'g/team', seq })
    }
    await (live[at] as Actor).receivesNothing()
    const seen = seenByComing[at] as number[]
    t.strictSame(
      [...new Set(seen)].sort((a, b) => a - b),
      wanted,
      `all of it reached the coming and going device of ${user}`,
    )
    const { messages } = await (live[at] as Actor).calls<{ messages: Json[] }>('sync', { cursors: {} })
    t.strictSame(
      messages.filter(({ conv }) => conv === 'g/team').map(({ seq }) => seq),
      wanted,
      `sync of ${user}`,
    )
  }
})

t.test('connecting at the very moment of being added or removed', async (t) => {
  const s = await stage(t)
  const [owner, carol] = await s.cast(['owner', 'carol'])
  const live = await s.actor('bob', { device: 'live' })
  const coming = await s.actor('bob', { device: 'coming', clean: false })
  await owner.calls('group.create', { group: 'team', members: ['carol'] })
  const seen = new Set<number>()
  let isOver = false
  const busy = async (act: (round: number) => Promise<unknown>): Promise<void> => {
    for (let round = 0; !isOver; round++) await act(round)
  }
  const work = [
    busy((round) => owner.calls(round % 2 === 0 ? 'group.add' : 'group.remove', { group: 'team', users: ['bob'] })),
    ...[1, 2, 3, 4].map(() => busy((round) => carol.sends('g/team', `${round}`))),
  ]
  for (let connects = 0; connects < 80; connects++) {
    await coming.drops()
    await coming.returns()
  }
  isOver = true
  await Promise.all(work)
  await s.caughtUp()
  await coming.calls('conversations', { limit: 1 })
  for (const { conv, body } of coming.inbox) if (conv === 'g/team') seen.add(body.seq as number)
  const log = await wholeLog(owner)
  const wanted = visibleTo('bob', log)
  t.strictSame(
    [...seen].filter((seq) => !wanted.includes(seq)),
    [],
    `of ${log.length} entries bob heard none that was not for him`,
  )
  t.strictSame(
    wanted.filter((seq) => !seen.has(seq)),
    [],
    `and missed none of his ${wanted.length}`,
  )
  for (const seq of wanted) await live.receives({ conv: 'g/team', seq })
  await live.receivesNothing()
})
