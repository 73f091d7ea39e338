/** Unread, by random histories: what the server computes from positions is what a naive observer has counted, at whatever moment. */
import t, { type Test } from 'tap'
import { newDatabase, startMongodb } from '../helper/mongodb.js'
import { newPrefix, startRedis } from '../helper/redis.js'
import { type Actor, type Json, type Stage, seeded, stage } from '../helper/stage.js'

const users = ['alice', 'bob', 'carol', 'dave']
const groups = ['g/one', 'g/two']

interface Said {
  seq: number
  from: string
}

/** Sees every entry as it is written, and keeps for each user the unread ones by hand. */
class Observer {
  readonly heads = new Map<string, number>()
  /** Messages that can be spoken of. */
  readonly texts = new Map<string, Said[]>()
  readonly #unread = new Map<string, Set<number>>()
  readonly #members = new Map<string, Set<string>>()
  readonly #visible = new Map<string, number>()

  membersOf(conv: string): Set<string> {
    const members = this.#members.get(conv) ?? new Set(conv.startsWith('g/') ? [] : conv.split('+'))
    this.#members.set(conv, members)
    return members
  }

  unreadOf(user: string, conv: string): Set<number> {
    const key = `${user} ${conv}`
    const unread = this.#unread.get(key) ?? new Set()
    this.#unread.set(key, unread)
    return unread
  }

  /** The last seq that the user may see. */
  visibleOf(user: string, conv: string): number {
    return this.#visible.get(`${user} ${conv}`) ?? 0
  }

  said(conv: string, from: string): number {
    const seq = (this.heads.get(conv) ?? 0) + 1
    this.heads.set(conv, seq)
    for (const user of this.membersOf(conv)) {
      this.#visible.set(`${user} ${conv}`, seq)
      if (user === from) this.unreadOf(user, conv).clear()
      else this.unreadOf(user, conv).add(seq)
    }
    return seq
  }

  joined(conv: string, user: string, by: string): void {
    this.membersOf(conv).add(user)
    this.said(conv, by)
    this.unreadOf(user, conv).clear()
  }

  left(conv: string, user: string, by: string): void {
    this.said(conv, by)
    this.membersOf(conv).delete(user)
  }

  read(user: string, conv: string, upTo: number): void {
    const unread = this.unreadOf(user, conv)
    for (const seq of unread) if (seq <= upTo) unread.delete(seq)
  }
}

/** Direct conversations have one name for both here. */
const nameOf = (user: string, address: string): string => (address.startsWith('g/') ? address : [user, address.slice(2)].sort().join('+'))
const addressOf = (user: string, conv: string): string =>
  conv.startsWith('g/') ? conv : `u/${conv.split('+').find((one) => one !== user)}`

async function compare(actor: Actor, observer: Observer, why: string): Promise<string[]> {
  const { conversations } = await actor.calls<{ conversations: Json[] } & Json>('conversations', { limit: 200 })
  return conversations.flatMap(({ conv, head, unread }) => {
    const counted = [...observer.unreadOf(actor.user, nameOf(actor.user, conv as string))].filter((seq) => seq <= (head as number)).length
    return counted === unread ? [] : [`${why}: ${actor.name} has ${unread} unread of ${head} in ${conv}, counted ${counted}`]
  })
}

/** Of each user one device is connected to each server. */
async function countsRight(t: Test, [here, there]: readonly [Stage, Stage], steps: number): Promise<void> {
  const { below } = seeded(t)
  const oneOf = <Item>(items: readonly Item[]): Item => items[below(items.length)] as Item
  const devices = new Map<string, Actor[]>()
  for (const user of users) devices.set(user, [await here.actor(user), await there.actor(user, { device: 'web' })])
  const deviceOf = (user: string): Actor => oneOf(devices.get(user) as Actor[])
  const observer = new Observer()
  for (const group of groups) {
    // What later members may read of the time before is not unread.
    const history = group === 'g/two' ? 'all' : 'join'
    await deviceOf('alice').calls('group.create', { group: group.slice(2), members: ['bob'], history })
    for (const user of ['alice', 'bob']) observer.membersOf(group).add(user)
    observer.said(group, 'alice')
    for (const user of ['alice', 'bob']) observer.unreadOf(user, group).clear()
  }
  const direct = users.flatMap((a, at) => users.slice(at + 1).map((b) => `${a}+${b}`))
  const convs = [...groups, ...groups, ...direct]

  /** Also what is no message: all of it is an entry. */
  const say = async (user: string, conv: string): Promise<void> => {
    const texts = observer.texts.get(conv) ?? []
    observer.texts.set(conv, texts)
    const own = texts.filter(({ from }) => from === user)
    const kind = below(6)
    const seq = observer.said(conv, user)
    let sent: string | Json = 'hi'
    if (kind === 0 && own.length > 0) sent = { type: 'edit', body: { seq: oneOf(own).seq, body: 'better' } }
    else if (kind === 1 && own.length > 0) sent = { type: 'recall', body: { seq: oneOf(own).seq } }
    else if (kind === 2 && own.length > 0) sent = { type: 'reaction', body: { seq: oneOf(own).seq, emoji: '👍', on: true } }
    else texts.push({ seq, from: user })
    await deviceOf(user).sends(addressOf(user, conv), sent)
  }
  const text = async (writer: Actor, conv: string): Promise<void> => {
    observer.said(conv, writer.user)
    await writer.sends(addressOf(writer.user, conv), 'meanwhile')
  }
  const read = async (user: string, conv: string): Promise<void> => {
    const head = observer.visibleOf(user, conv)
    if (head === 0) return
    const seq = 1 + below(head)
    observer.read(user, conv, seq)
    await deviceOf(user).reads(addressOf(user, conv), seq)
    // Another device, or the same, has not heard of it and says where it was.
    if (below(2) === 0) await deviceOf(user).reads(addressOf(user, conv), 1 + below(seq))
  }
  const comeOrGo = async (user: string, group: string): Promise<void> => {
    const name = group.slice(2)
    if (!observer.membersOf(group).has(user)) {
      observer.joined(group, user, 'alice')
      await deviceOf('alice').calls('group.add', { group: name, users: [user] })
    } else if (below(2) === 0) {
      observer.left(group, user, user)
      await deviceOf(user).calls('group.leave', { group: name })
    } else {
      observer.left(group, user, 'alice')
      await deviceOf('alice').calls('group.remove', { group: name, users: [user] })
    }
  }

  const faults: string[] = []
  for (let step = 0; step < steps && faults.length === 0; step++) {
    const conv = oneOf(convs)
    const members = [...observer.membersOf(conv)]
    const kind = below(10)
    if (kind < 5) await say(oneOf(members), conv)
    else if (kind < 7) {
      const user = oneOf(members)
      await read(user, conv)
      faults.push(...(await compare(deviceOf(user), observer, `step ${step}, after reading`)))
    } else if (kind === 7) await comeOrGo(oneOf(['bob', 'carol', 'dave']), oneOf(groups))
    else {
      const user = oneOf(users)
      // Somebody writes between what he reads and his list; on one device, so that the order is known.
      if (kind === 8) await read(user, conv)
      const others = members.filter((one) => one !== user)
      const writer = others.length === 0 ? undefined : deviceOf(oneOf(others))
      const writing = writer === undefined ? [] : Array.from({ length: below(4) }, () => text(writer, conv))
      faults.push(...(await compare(deviceOf(user), observer, `step ${step}`)))
      await Promise.all(writing)
    }
  }
  for (const user of users) faults.push(...(await compare(deviceOf(user), observer, 'at the end')))
  for (const each of new Set([here, there])) await each.restart()
  for (const user of users) faults.push(...(await compare(await there.actor(user, { device: 'new' }), observer, 'after a restart')))
  t.strictSame(faults, [])
  t.ok([...observer.heads.values()].reduce((sum, head) => sum + head, 0) > steps / 3, 'something was said')
}

t.test('unread is what an observer counts', async (t) => {
  const s = await stage(t)
  await countsRight(t, [s, s], 300)
})

t.test('unread is what an observer counts, on two nodes', { timeout: 180_000 }, async (t) => {
  const [mongodb, redis] = [await startMongodb(t), await startRedis(t)]
  if (mongodb === undefined || redis === undefined) return
  const shared = { mongodbUrl: newDatabase(mongodb), redisUrl: redis.url, redisPrefix: newPrefix() }
  await countsRight(t, [await stage(t, { ...shared, nodeId: 'a' }), await stage(t, { ...shared, nodeId: 'b' })], 100)
})
