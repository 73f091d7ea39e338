/**
 * All promises at once: people talk while the server is killed and their connections are broken, frozen and abused, on a
 * schedule drawn from a seed. Then everything heals, and the checker judges what each device got and what is on disk.
 * PARLEY_TEST_SEED repeats a run, PARLEY_TEST_MINUTES makes it longer.
 */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { type Address, conversationOf, groupConversation } from '../../broker/topics.js'
import { createRandom, newSeed } from '../contract/entries.js'
import { check, type ReadRecord } from '../helper/checker.js'
import { eventually } from '../helper/eventually.js'
import { readAll, readLog } from '../helper/final-log.js'
import { newRunName, RecordingClient } from '../helper/recording-client.js'
import { startServer } from '../helper/server-process.js'

const runMs = Number(process.env.PARLEY_TEST_MINUTES ?? 0.12) * 60_000
const healMsMax = 60_000
const groups = ['red', 'blue']
/** Never a member of anything; tries all the time. */
const outsider = 'mallory'
const users = ['ann', 'ben', 'cat', 'dan', 'eve', 'fay', 'gus', 'hal', 'ida', 'jan']
/** Those that stay in the groups: what they send there is never refused. */
const stayers = users.slice(0, 4)

const timeoutMs = runMs + 120_000
t.setTimeout(timeoutMs)

t.test('promises hold through faults', { timeout: timeoutMs }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const pick = <Value>(list: readonly Value[]): Value => list[random(list.length)] as Value
  const run = newRunName()
  const server = await startServer(t, {
    PARLEY_WINDOW: '16',
    PARLEY_SOCKET_BYTES_MAX: '16384',
    PARLEY_CONVERSATION_BACKLOG_MAX: '1000000',
    PARLEY_SESSION_BACKLOG_MAX: '1000000',
  })

  const clients = [...users, outsider].flatMap((user, index) => {
    const phone = new RecordingClient({ user, device: 'phone', clean: false, transport: index % 3 === 2 ? 'ws' : 'tcp', server })
    const tab = new RecordingClient({ user, device: 'tab', clean: true, transport: index % 2 === 0 ? 'ws' : 'tcp', server })
    return index % 3 === 1 ? [phone] : [phone, tab]
  })
  t.teardown(() => clients.forEach((client) => client.stop()))
  const clientsOf = (user: string) => clients.filter((client) => client.options.user === user)
  for (const client of clients) client.start()
  await eventually(() => clients.every(({ isReady }) => isReady), { what: 'everybody is connected', timeoutMs: 20_000 })
  for (const group of groups) await server.rpc('ann', 'group.create', { group, members: users.slice(1, 7) })

  let sent = 0
  const members = [...users.slice(1, 7)]
  const addressFor = (user: string): Address => {
    if (random(2) === 0) return `u/${pick(users.filter((other) => other !== user))}`
    return `g/${pick(groups)}`
  }
  const sendOne = (client: RecordingClient, address: Address): void => {
    const name = `${run}-${++sent}`
    const size = random(10) === 0 ? random(4_000) : random(40)
    client.send(address, `${name} ${'.'.repeat(size)}`, random(4) === 0 ? undefined : name)
  }
  const burst = (): void => {
    const client = pick(clients)
    if (client.unsettled > 200) return
    const address = addressFor(client.options.user)
    for (let i = random(30); i >= 0; i--) sendOne(client, address)
  }
  const sendTwice = (): void => {
    const user = pick(users)
    const address = addressFor(user)
    const name = `${run}-${++sent}`
    for (const client of clientsOf(user)) client.send(address, name, name)
  }
  let pendingChange: Promise<unknown> = Promise.resolve()
  const changeMembers = (): void => {
    const user = pick(users.slice(4))
    const group = pick(groups)
    const method = random(2) === 0 ? 'group.add' : 'group.remove'
    pendingChange = pendingChange.then(() => server.call('ann', method, { group, users: [user] })).catch(isServerDown)
  }
  let restarting: Promise<unknown> = Promise.resolve()
  let isRestarting = false
  let kills = 0
  // Some runs crash all the time, others leave sessions alone long enough to fall far behind.
  const calm = 1 + 6 * random(3)
  const crash = (): void => {
    if (isRestarting || random(calm) !== 0) return
    kills++
    isRestarting = true
    restarting = server
      .kill()
      .then(() => server.start())
      .finally(() => {
        isRestarting = false
      })
  }
  const actions: [weight: number, act: () => void][] = [
    [60, burst],
    [10, sendTwice],
    [6, () => pick(clients).reset()],
    [4, () => pick(clients).freeze()],
    [4, () => Object.assign(pick(clients), { isWithholding: true })],
    [12, () => pick(clients).heal()],
    [3, () => pick(clients.filter(({ options }) => !options.clean)).stop()],
    [6, () => pick(clients).start()],
    [6, changeMembers],
    [1, crash],
  ]
  const total = actions.reduce((sum, [weight]) => sum + weight, 0)
  const act = (): void => {
    let at = random(total)
    for (const [weight, action] of actions) {
      if (at < weight) return action()
      at -= weight
    }
  }
  for (const until = performance.now() + runMs; performance.now() < until; ) {
    act()
    await delay(random(12))
  }

  await restarting
  await server.kill()
  await server.start()
  await pendingChange
  for (const client of clients) {
    client.start()
    client.heal()
  }
  const settled = () => clients.every((client) => client.isReady && client.unsettled === 0)
  const state = () => clients.map((client) => `${client.name} ready=${client.isReady} unsettled=${client.unsettled}`).join(', ')
  await eventually(() => settled() || Promise.reject(state()), { timeoutMs: healMsMax, what: 'everything is acknowledged' })

  // A last message in every conversation: who has it has, by order, all that was before it.
  const convs = [
    ...users.flatMap((a) => users.filter((b) => a < b).map((b) => [a, `u/${b}`] as const)),
    ...groups.map((g) => ['ann', `g/${g}`] as const),
  ]
  const last = convs.map(([user, address]) => clientsOf(user)[0]?.send(address, `${run} end of ${user} ${address}`, `${run}-end`))
  await eventually(() => last.every((record) => record?.acks.length === 1), { timeoutMs: healMsMax, what: 'the last messages are acked' })
  const present = new Map(
    await Promise.all(
      groups.map(async (group) => {
        const { members } = (await server.rpc('ann', 'group.members', { group })) as { members: { user: string }[] }
        return [group, members.map(({ user }) => user)] as const
      }),
    ),
  )
  const missing = (): string | undefined => {
    for (const [index, [user, address]] of convs.entries()) {
      const record = last[index]
      const seq = record?.acks[0]?.seq as number
      const receivers = address.startsWith('g/') ? (present.get(address.slice(2)) ?? []) : [user, address.slice(2)]
      for (const client of receivers.flatMap(clientsOf)) {
        if (client.name === `${record?.user}/${record?.device}`) continue
        const got = client.connections.at(-1)?.received.some((each) => each.conv === record?.conv && each.seq === seq)
        if (!got) return `${client.name} lacks ${record?.conv} ${seq}`
      }
    }
    return undefined
  }
  await eventually(() => missing() === undefined || Promise.reject(missing()), {
    timeoutMs: healMsMax,
    what: 'the last messages have reached everybody',
  })

  const all = [
    ...convs.map(([user, address]) => conversationOf(address, user) as string),
    ...users.map((user) => `u/${[user, outsider].sort().join('/')}`),
  ]
  const reads: ReadRecord[] = []
  for (const user of [...users, outsider]) {
    const own = all.filter((conv) => conv.startsWith('g/') || conv.split('/').includes(user))
    reads.push(...(await readAll(server, user, own)))
  }
  const connections = clients.flatMap((client) => client.connections)
  for (const client of clients) client.stop()
  const closed = new Set(connections.filter(({ closedAt }) => closedAt !== undefined))
  t.same(await server.stop(), { code: 0, signal: null }, 'the server drains')
  const log = await readLog(server.dir, all)
  const judged = connections.map((connection) => (closed.has(connection) ? connection : { ...connection, closedAt: undefined }))
  const sends = clients.flatMap((client) => client.sends)
  const faults = check({ sends, connections: judged, reads, log })
  const received = connections.reduce((sum, connection) => sum + connection.received.length, 0)
  t.comment(`${sends.length} sends, ${received} receipts over ${connections.length} connections, ${kills} kills`)
  t.same(faults, [])
  for (const group of groups) {
    const refused = sends.filter(({ user, conv }) => conv === groupConversation(group) && user === outsider)
    t.ok(
      refused.every(({ acks }) => acks.length === 0),
      `no message of the outsider is in ${group}`,
    )
    const stayed = sends.filter(({ user, conv }) => conv === groupConversation(group) && stayers.includes(user))
    t.ok(
      stayed.every(({ refusals }) => refusals.length === 0),
      `no message of a member was refused in ${group}`,
    )
  }
  t.ok(sends.length > 100 && members.length > 0, 'the run was worth its name')
})

/** The server is killed while a change is under way; whether it was made shows in the log. */
function isServerDown(error: unknown): void {
  if (!(error instanceof TypeError)) throw error
}
