/** Plans of the scenarios: everybody hears exactly the streams that are meant for him, and each stream belongs to one conversation. */
import t from 'tap'
import { noFaults } from '../loadtest/faults.js'
import type { LeanClient } from '../loadtest/lean-client.js'
import { createReaders, Participant } from '../loadtest/participant.js'
import { planBacklog } from '../loadtest/scenarios/backlog.js'
import { type MixedShape, planMixed } from '../loadtest/scenarios/mixed.js'
import type { ClientPlan, Echo } from '../loadtest/scenarios/plan.js'
import { Tally } from '../loadtest/tally.js'

const shape: MixedShape = {
  ...{ friends: 4, groups: 5, groupSize: 10, groupShare: 0.3, skew: 1, seed: 3 },
  ...{ readsPerSecond: 1, callsPerSecond: 1, typingPerSecond: 1, actsPerSecond: 1, leavesPerSecond: 1, awayMs: 1 },
}

t.test('backlog: each session hears one writer, and all streams have one', async (t) => {
  const { clients } = planBacklog({ clients: 10, senders: 3 }, 'x')
  const returning = clients.filter(({ role }) => role === 'returning')
  t.equal(returning.length, 10)
  const streams = clients.flatMap(({ sends }) => sends)
  t.same(
    streams.map(({ number }) => number).sort((a, b) => a - b),
    Array.from({ length: 10 }, (_, index) => index),
  )
  for (const { hears, inboxes } of returning) {
    t.equal(hears.length, 1)
    t.same(
      streams.filter(({ number }) => number === hears[0]).map(({ topic }) => topic),
      inboxes,
    )
  }
})

for (const echo of ['echo', 'no-echo'] as const satisfies Echo[]) {
  t.test(`mixed, ${echo}: the same seed gives the same people, and streams lead where their topics say`, async (t) => {
    const plan = planMixed(60, shape, 'x', echo)
    t.same(JSON.stringify(planMixed(60, shape, 'x', echo)), JSON.stringify(plan))
    t.notSame(JSON.stringify(planMixed(60, { ...shape, seed: 4 }, 'x', echo)), JSON.stringify(plan))
    const all = plan.clients.flatMap((client) => client.sends.map((stream) => ({ ...stream, from: client.user })))
    t.equal(new Set(all.map(({ number }) => number)).size, all.length, 'numbered apart')
    for (const { number, topic, from } of all) {
      const hearers = plan.clients.filter(({ hears }) => hears.includes(number))
      const expected = topic.startsWith('u/')
        ? [topic.split('/')[1] as string]
        : members(plan.groups.find(({ id }) => topic === `g/${id}/msg`)).filter((user) => echo === 'echo' || user !== from)
      t.same(hearers.map(({ user }) => user).sort(), expected.sort(), topic)
      const conv = topic.startsWith('u/') ? `u/${from}` : topic.slice(0, -4)
      t.ok(hearers.every(({ convOf }) => convOf?.(number) === conv))
      t.ok(hearers.every(({ inboxes }) => inboxes.includes(topic)))
    }
    t.equal(plan.groups.length, 5)
    t.ok((plan.clients[0]?.weight ?? 0) > (plan.clients[1]?.weight ?? 0), 'the first is the busiest')
    t.ok(plan.clients.every(({ sends }) => sends.length > 0))
  })
}

const members = (group: { owner: string; members: string[] } | undefined): string[] =>
  group === undefined ? [] : [group.owner, ...group.members]

/** Hears streams 0 from bob and 1 from carol, and 2 in a group; sends to both. */
const plan: ClientPlan = {
  ...{ user: 'alice', share: 0, weight: 1, role: 'online', hears: [0, 1, 2], inboxes: [] },
  sends: [
    { topic: 'u/bob/msg', number: 3 },
    { topic: 'u/carol/msg', number: 4 },
  ],
  convOf: (stream) => ['u/bob', 'u/carol', 'g/team'][stream] ?? '',
}

function listener(): {
  participant: Participant
  deliver(stream: number, number: number, seq: number): void
  ack(number: number, seq: number): void
} {
  const sink = { listener: undefined, append: () => undefined, flush: () => undefined } as unknown as LeanClient
  const readers = createReaders('parley')
  const participant = new Participant(plan, sink, { dialect: 'parley', inFlight: 4, bodyBytes: 30, readers, tally: new Tally() })
  const digits = (value: number, width: number): string => String(value).padStart(width, '0')
  return {
    participant,
    deliver(stream, number, seq) {
      const body = `~L${digits(stream, 5)}${digits(number, 9)}${digits(1, 9)}`
      const bytes = Buffer.from(JSON.stringify({ seq, ts: 1, from: 'x', id: 'c1', type: 'text', body }))
      participant.delivered(bytes, 0, bytes.length)
    },
    ack(number, seq) {
      const bytes = Buffer.from(JSON.stringify({ id: `c${digits(number, 9)}`, conv: 'u/x', seq, ts: 1_732_340_000_000 }))
      participant.acked(bytes, 0, bytes.length)
    },
  }
}

t.test('several conversations: each has its own seqs, acks find theirs', async (t) => {
  const { participant, deliver, ack } = listener()
  participant.start(1)
  t.equal(participant.sent, 2, 'one to each, as the quota says')
  deliver(0, 0, 1)
  deliver(1, 0, 1)
  const system = Buffer.from(JSON.stringify({ seq: 1, ts: 1, group: 'team', type: 'system', body: {} }))
  participant.delivered(system, 0, system.length)
  deliver(2, 0, 2)
  ack(1, 2)
  ack(0, 2)
  participant.confirmed(1)
  participant.confirmed(2)
  const sent = new Map([
    [0, 1],
    [1, 1],
    [2, 1],
  ])
  t.ok(participant.isSettled() && participant.hasAll(sent))
  const faults = noFaults()
  const notes: string[] = []
  participant.faults(sent, faults, notes)
  t.same(notes, [])
  t.same(faults, noFaults())
})

t.test('several conversations: a gap in one is not hidden by the other', async (t) => {
  const { participant, deliver } = listener()
  for (const [stream, number, seq] of [
    [0, 0, 1],
    [1, 0, 2],
    [0, 1, 3],
    [1, 1, 3],
  ] as const) {
    deliver(stream, number, seq)
  }
  const faults = noFaults()
  const notes: string[] = []
  participant.faults(new Map([[0, 3]]), faults, notes)
  t.equal(faults.seqFaults, 1)
  t.equal(faults.lost, 1)
  t.match(notes.join('\n'), /gaps or repeats/)
})
