/** The audit's checker is judged: on a clean history it finds nothing, in each doctored one it names what was done, and nothing else. */
import t from 'tap'
import { check } from '../audit/checker.js'
import { type Event, type EventOf, HistoryBuilder, type Run } from '../audit/history.js'
import { type Verdict, type Wrong, wrongNames } from '../audit/verdict.js'

const direct = 'u/alice/bob'
const group = 'g/team'

const raw = (seq: number, from: string, name: string, more: object): string =>
  JSON.stringify({ seq, ts: 1_000 + seq, from, ...more, id: name, type: 'text', body: `${name} ` })

const message = (conv: string, seq: number, from: string, name: string): Event => ({
  ...{ event: 'message', conv, seq },
  raw: raw(seq, from, name, conv === direct ? { to: 'bob' } : { group: 'team' }),
})

function system(seq: number, event: string, users: string[]): Event {
  const text = JSON.stringify({ seq, ts: 1_000 + seq, from: 'alice', group: 'team', id: `s${seq}`, type: 'system', body: { event, users } })
  return { event: 'message', conv: group, seq, raw: text }
}

const send = (number: number, client: number, conv: string, name: string, at: number): Event => ({
  ...{ event: 'send', send: number, client, conv, id: name, name, bytes: 0, at },
})

const ack = (number: number, seq: number): Event => ({ event: 'ack', send: number, seq, ts: 1_000 + seq, dup: false, at: 40 })
const read = (user: string, conv: string, by: 'history' | 'peek', to: number, runs: Run[]): Event => ({
  ...{ event: 'read', user, conv, by, from: 1, to, runs },
})

const down = (connection: number, after: Record<string, Run[]>, more: Partial<EventOf<'down'>> = {}): Event => ({
  ...{ event: 'down', connection, at: 90, ms: 90, isOpen: true, isSilent: false, before: {}, after, unacked: [] },
  ...more,
})

const healed: EventOf<'healed'> = {
  ...{ event: 'healed', ms: 100, sessions: 3, gauge: 3, waitedMs: 10, complaint: '', isRead: true, descriptors: 3, lagMs: 12 },
}

/** Alice sends bob two messages and a group two more; carol joins the group behind the first and is removed before the second. */
const clean: readonly Event[] = [
  { ...{ event: 'run', version: 1, seed: 1, startedAt: '', minutes: 1, rate: 1, users: 3 }, faults: ['kill'], skipped: [] } as Event,
  ...['alice', 'bob', 'carol'].map(
    (user, client): Event => ({ event: 'client', client, user, device: 'phone', clean: false, transport: 'tcp' }),
  ),
  ...[0, 1, 2].map(
    (client): Event => ({
      ...{ event: 'up', connection: client, client, at: client + 1, ms: client + 1, attempt: 1, present: false, expiresMs: 50_000 },
    }),
  ),
  ...[0, 1, 2].map((connection): Event => ({ event: 'ready', connection, at: 5, ready: { replayed: 0, heads: {} } })),
  { event: 'members', group: 'team', change: 'create', users: ['alice', 'bob'], at: 6, isDone: true },
  system(1, 'created', ['alice', 'bob']),
  send(0, 0, direct, 'm0', 10),
  send(1, 0, direct, 'm1', 11),
  send(2, 0, group, 'm2', 12),
  send(3, 0, group, 'm3', 14),
  ...[0, 1, 2, 3].map((number): Event => ({ event: 'puback', send: number, ms: 20 })),
  ack(0, 1),
  ack(1, 2),
  ack(2, 2),
  ack(3, 5),
  message(direct, 1, 'alice', 'm0'),
  message(direct, 2, 'alice', 'm1'),
  message(group, 2, 'alice', 'm2'),
  system(3, 'added', ['carol']),
  system(4, 'removed', ['carol']),
  message(group, 5, 'alice', 'm3'),
  down(0, {
    [group]: [
      [1, 1],
      [3, 4],
    ],
  }),
  down(1, { [direct]: [[1, 2]], [group]: [[1, 5]] }),
  down(2, { [group]: [[3, 4]] }),
  { event: 'node', node: 'node-1', what: 'exit', ms: 100, isOrdered: true, why: 'SIGKILL' },
  read('alice', direct, 'history', 2, [[1, 2]]),
  read('alice', group, 'history', 5, [[1, 5]]),
  { ...(read('carol', group, 'history', 4, [[3, 4]]) as EventOf<'read'>) },
  healed,
]

const judge = (events: readonly Event[]): Verdict => {
  const builder = new HistoryBuilder()
  for (const event of events) builder.add(event)
  return check(builder.history())
}

const found = ({ wrong }: Verdict): Wrong[] => wrongNames.filter((name) => wrong[name] > 0)

/** What alice is told of bob. */
const receipt = (more: Partial<EventOf<'receipt'>>): Event => ({
  ...{ event: 'receipt', connection: 0, at: 50, conv: direct, user: 'bob', delivered: 2, read: 0, acked: 2 },
  ...more,
})

const bobHasRead = (seq: number): Event => ({ event: 'position', position: 0, client: 1, conv: direct, seq, at: 45 })

const aliceLists = (more: object): Event => ({
  ...{ event: 'list', user: 'alice' },
  rows: [{ conv: direct, head: 2, unread: 0, delivered: 2, read: 0, acked: 2, ...more }],
})

const heard = (connection: number, conv: string, from: string): Event => ({ event: 'heard', connection, conv, from, at: 8 })

/** Bob blocks alice. */
const block = (isOn: boolean, at: number): Event => ({
  ...{ event: 'block', user: 'bob', peer: 'alice', isOn, at, doneAt: at + 1, isDone: true },
})

type Doctor = (events: Event[]) => Event[]

/** Alice watches bob from the beginning of a run of a minute, and is told this at these times. */
const watched =
  (...told: [ms: number, status: 'online' | 'offline'][]): Doctor =>
  (events) => [
    ...events.map((event): Event => (event.event === 'healed' ? { ...event, ms: 60_000 } : event)),
    { event: 'watch', connection: 0, users: ['bob'], ms: 10 },
    ...told.map(([ms, status]): Event => ({ event: 'presence', connection: 0, user: 'bob', status, ms })),
  ]

/** Bob is gone from here on. */
const bobLeaves =
  (ms: number, more: Partial<EventOf<'down'>> = {}): Doctor =>
  (events) =>
    replace(isDown(1), down(1, whole, { isOpen: false, ms, ...more }))(events)

const outage = (fromMs: number, toMs: number): Event => ({ event: 'outage', node: 'node-1', fromMs, toMs })

/** Replaces the only event that it is true for. */
const replace =
  (which: (event: Event) => boolean, ...by: Event[]): Doctor =>
  (events) => {
    const at = events.findIndex(which)
    if (at === -1) throw new Error('there is no such event')
    return events.toSpliced(at, 1, ...by)
  }

const add =
  (...more: Event[]): Doctor =>
  (events) => [...events, ...more]

const isDown = (connection: number) => (event: Event) => event.event === 'down' && event.connection === connection
const isRead = (user: string, conv: string) => (event: Event) => event.event === 'read' && event.user === user && event.conv === conv
const isMessage = (conv: string, seq: number) => (event: Event) => event.event === 'message' && event.conv === conv && event.seq === seq

const bobGot = (after: Record<string, Run[]>, more?: Partial<EventOf<'down'>>): Doctor => replace(isDown(1), down(1, after, more))
const whole: Record<string, Run[]> = { [direct]: [[1, 2]], [group]: [[1, 5]] }

/** Carol is not removed, so she gets what follows. */
const muted = (seq: number, user: string): Event => ({
  ...{ event: 'message', conv: group, seq },
  raw: JSON.stringify({
    seq,
    ts: 1_000 + seq,
    from: 'alice',
    group: 'team',
    id: `s${seq}`,
    type: 'system',
    body: { event: 'muted', user },
  }),
})

/** Bob recalls what alice said: the second message of theirs is his. */
const strangersRecall: Doctor = (events) =>
  bobGot({ ...whole, [direct]: [[1, 1]] })(
    replace(
      isDown(0),
      down(0, {
        [direct]: [[2, 2]],
        [group]: [
          [1, 1],
          [3, 4],
        ],
      }),
    )(
      replace(isMessage(direct, 2), {
        ...{ event: 'message', conv: direct, seq: 2 },
        raw: JSON.stringify({ seq: 2, ts: 1_002, from: 'bob', to: 'alice', id: 'm1', type: 'recall', body: { seq: 1 } }),
      })(events),
    ),
  ).map((event) => (event.event === 'send' && event.send === 1 ? { ...event, client: 1, act: { type: 'recall', seq: 1 } } : event))

/** A second wrong is named where one cannot be had without the other. */
const cases: [title: string, expected: Wrong | Wrong[], doctor: Doctor][] = [
  [
    'an acked message is not in the log',
    'lost',
    (events) =>
      bobGot({ ...whole, [direct]: [[1, 1]] })(replace(isRead('alice', direct), read('alice', direct, 'history', 1, [[1, 1]]))(events)),
  ],
  ['PUBACK without ack or refusal, and not in the log', 'lost', add(send(4, 0, direct, 'm4', 30), { event: 'puback', send: 4, ms: 40 })],
  ['a message never reached a session', 'lost', bobGot({ ...whole, [direct]: [[1, 1]] })],
  ['a session got what is not in the log', 'lost', bobGot({ ...whole, [direct]: [[1, 3]] })],
  ['what was shown in the middle of the run is gone', 'lost', add(read('bob', direct, 'peek', 3, [[1, 3]]))],
  ['a member is not shown a message', 'lost', replace(isRead('carol', group), read('carol', group, 'history', 4, [[3, 3]]))],
  [
    'what was not acknowledged did not come again',
    'lost',
    (events) =>
      add(
        { event: 'up', connection: 3, client: 1, at: 95, ms: 95, attempt: 2, present: true },
        { event: 'ready', connection: 3, at: 96, ready: { replayed: 0, heads: {} } },
        down(3, {}),
      )(bobGot(whole, { isOpen: false, unacked: [[direct, 2]] })(events)),
  ],
  [
    'a confirmed change of members is not in the log',
    'lost',
    add({ event: 'members', group: 'team', change: 'add', users: ['dave'], at: 30, isDone: true }),
  ],
  [
    'a message came twice on a connection',
    'duplicated',
    bobGot({
      ...whole,
      [direct]: [
        [1, 2],
        [2, 2],
      ],
    }),
  ],
  [
    'a delivery went back',
    ['reordered', 'gaps'],
    bobGot({
      ...whole,
      [direct]: [
        [2, 2],
        [1, 1],
      ],
    }),
  ],
  [
    'a page is in another order',
    'reordered',
    replace(
      isRead('alice', direct),
      read('alice', direct, 'history', 2, [
        [2, 2],
        [1, 1],
      ]),
    ),
  ],
  [
    'a session’s messages are stored in another order',
    'reordered',
    (events) =>
      events
        .map((event) => (event.event === 'send' && event.send < 2 ? { ...event, name: `m${1 - event.send}` } : event))
        .map((event) => (event.event === 'ack' && event.send < 2 ? { ...event, seq: 3 - event.seq } : event)),
  ],
  [
    'a delivery passed a message over',
    'gaps',
    bobGot({
      ...whole,
      [group]: [
        [1, 3],
        [5, 5],
      ],
    }),
  ],
  [
    'the log has a hole',
    'gaps',
    (events) =>
      replace(isMessage(group, 2))(events).filter(
        (event) => !(event.event === 'ack' && event.send === 2) && !(event.event === 'puback' && event.send === 2),
      ),
  ],
  [
    'ready said that all was there',
    'gaps',
    replace((event) => event.event === 'ready' && event.connection === 1, {
      event: 'ready',
      connection: 1,
      at: 5,
      ready: { replayed: 0, heads: { 'u/alice': 2 } },
    }),
  ],
  ['a payload differs from what others saw', 'changed', add({ event: 'changed', conv: direct, seq: 1, raw: '{}', who: 'bob/phone' })],
  [
    'a stored message is not what was sent',
    'changed',
    replace(isMessage(direct, 1), {
      event: 'message',
      conv: direct,
      seq: 1,
      raw: raw(1, 'alice', 'm0', { to: 'bob' }).replace('"m0 "', '"m0 !"'),
    }),
  ],
  ['an ex-member got what came later', 'leaked', replace(isDown(2), down(2, { [group]: [[3, 5]] }))],
  ['a member got what was before him', 'leaked', replace(isDown(2), down(2, { [group]: [[2, 4]] }))],
  ['an ex-member could read what came later', 'leaked', replace(isRead('carol', group), read('carol', group, 'history', 5, [[3, 5]]))],
  ['an ex-member is told how far the group is', 'leaked', add({ ...read('carol', group, 'peek', 5, []), from: 6 } as Event)],
  [
    'ready tells an ex-member how far the group is',
    'leaked',
    (events) =>
      replace((event) => event.event === 'ready' && event.connection === 2, {
        event: 'ready',
        connection: 2,
        at: 5,
        ready: { replayed: 0, heads: { [group]: 5 } },
      })(replace(isDown(2), down(2, {}, { before: { [group]: [[3, 4]] } }))(events)),
  ],
  [
    'an outsider wrote',
    'leaked',
    (events) =>
      replace(
        isMessage(group, 5),
        message(group, 5, 'carol', 'm3'),
      )(
        replace(
          isDown(0),
          down(0, {
            [group]: [
              [1, 1],
              [3, 5],
            ],
          }),
        )(events).map((event) => (event.event === 'send' && event.send === 3 ? { ...event, client: 2 } : event)),
      ),
  ],
  ['an ack names another seq', 'falsely acked', replace((event) => event.event === 'ack' && event.send === 0, ack(0, 2))],
  [
    'a member was refused',
    'falsely acked',
    add(send(4, 0, group, 'm4', 30), { event: 'puback', send: 4, ms: 40 }, { event: 'refused', send: 4, code: 'forbidden' }),
  ],
  [
    'a refused message is stored',
    'falsely acked',
    (events) =>
      events
        .filter((event) => event.event !== 'ack' || event.send !== 0)
        .concat({ event: 'refused', send: 0, code: 'blocked' }, block(true, 88), block(false, 89)),
  ],
  [
    'a server ended by itself',
    'unbounded',
    add({ event: 'node', node: 'node-1', what: 'exit', ms: 50, isOrdered: false, why: 'exit code 1' }),
  ],
  ['a fault in the log', 'unbounded', add({ event: 'logged', node: 'node-1', level: 'error', text: 'TypeError: x is not a function' })],
  [
    'a rejection that nobody handles',
    'unbounded',
    add({ event: 'logged', node: 'node-1', level: 'none', text: 'UnhandledPromiseRejection' }),
  ],
  ['too much memory', 'unbounded', add({ event: 'sample', sample: { ms: 1, acked: 0, delivered: 0, live: 3, rssMb: 4_000 } })],
  ['sessions are kept', 'unbounded', replace((event) => event === healed, { ...healed, gauge: 4 })],
  ['descriptors are kept', 'unbounded', replace((event) => event === healed, { ...healed, descriptors: 500 })],
  ['the event loop does not come to rest', 'unbounded', replace((event) => event === healed, { ...healed, lagMs: 3_000 })],
  ['it never settled', 'unbounded', replace((event) => event === healed, { ...healed, complaint: '3 clients are not done' })],
  [
    'a server did not come up again, so there is no log to judge by',
    'unbounded',
    (events) =>
      replace((event) => event === healed, { ...healed, complaint: 'node-1 does not listen', isRead: false })(
        events.filter(({ event }) => event !== 'read'),
      ),
  ],
  ['the run has no end', 'unbounded', (events) => events.filter((event) => event !== healed)],
  [
    'a session was forgotten',
    'sessions',
    (events) =>
      add(
        { event: 'up', connection: 3, client: 1, at: 95, ms: 95, attempt: 2, present: false },
        { event: 'ready', connection: 3, at: 96, ready: { replayed: 0, heads: {} } },
        down(3, {}),
      )(bobGot(whole, { isOpen: false })(events)),
  ],
  [
    'a device had two connections',
    'sessions',
    (events) =>
      add(
        { event: 'up', connection: 3, client: 1, at: 60, ms: 60, attempt: 2, present: true },
        { event: 'ready', connection: 3, at: 61, ready: { replayed: 0, heads: {} } },
        down(3, {}),
      )(bobGot(whole, { isOpen: false, ms: 9_000 })(events)),
  ],
  ['a receipt claims what nobody has acknowledged', 'status', add(receipt({ delivered: 2, acked: 1 }))],
  ['a receipt claims what nobody said that he had read', 'status', add(bobHasRead(1), receipt({ delivered: 2, read: 2 }))],
  ['a receipt goes back on a connection', 'status', add(receipt({ delivered: 2 }), receipt({ delivered: 1 }))],
  ['a list claims more unread than there is', 'status', add(aliceLists({ unread: 1 }))],
  [
    'a list has forgotten what a peer has read',
    'status',
    add(bobHasRead(2), { event: 'positioned', position: 0 }, aliceLists({ read: 1 })),
  ],
  ['a list ends before the log', 'lost', add(aliceLists({ head: 1, delivered: 1 }))],
  ['somebody is heard to write who did not', 'status', add(heard(1, direct, 'alice'))],
  ['somebody outside hears who is writing', 'leaked', add({ event: 'typed', client: 0, conv: direct, at: 7 }, heard(2, direct, 'alice'))],
  ['a message of who was blocked is stored', 'unlawful', add(block(true, 8))],
  [
    'a message of who is muted is stored',
    'unlawful',
    (events) =>
      replace(
        isDown(2),
        down(2, { [group]: [[3, 5]] }),
      )(
        replace(
          isRead('carol', group),
          read('carol', group, 'history', 5, [[3, 5]]),
        )(replace(isMessage(group, 4), muted(4, 'alice'))(events)),
      ),
  ],
  ['a stranger’s recall is stored', 'unlawful', strangersRecall],
  ['a connected user is shown offline', 'presence', watched([20, 'offline'])],
  ['a connected user is shown offline in the middle', 'presence', watched([20, 'online'], [10_000, 'offline'], [35_000, 'online'])],
  ['a user who has gone is shown online', 'presence', (events) => bobLeaves(9_000)(watched([20, 'online'])(events))],
  ['who watches is told nothing', 'presence', watched()],
  ['he is told nothing of who has gone', 'presence', (events) => bobLeaves(9_000)(watched()(events))],
  [
    'a user is shown offline long after a fault of a server',
    'presence',
    (events) => add(outage(8_000, 20_000))(watched([20, 'online'], [10_000, 'offline'], [50_000, 'online'])(events)),
  ],
  ['a connection outlived its token', 'sessions', bobGot(whole, { isOpen: false, ms: 70_000 })],
]

t.test('nothing is wrong with a clean history, whichever way it is asked', async (t) => {
  t.same(
    found(judge(clean)),
    [],
    judge(clean)
      .violations.map(({ text }) => text)
      .join('; '),
  )
  t.same(judge(clean), judge(clean), 'the same history has the same verdict')
})

/** Alice's first message is stored behind her second. */
const firstTwoSwapped: Doctor = (events) =>
  events
    .map((event) => (event.event === 'send' && event.send < 2 ? { ...event, name: `m${1 - event.send}` } : event))
    .map((event) => (event.event === 'ack' && event.send < 2 ? { ...event, seq: 3 - event.seq } : event))

const honest: [title: string, doctor: Doctor][] = [
  ['a connected user is shown online', watched([20, 'online'])],
  ['he is shown offline for some seconds', watched([20, 'offline'], [9_000, 'online'], [30_000, 'offline'], [39_000, 'online'])],
  ['who has gone is shown offline a little later', (events) => bobLeaves(9_000)(watched([20, 'online'], [20_000, 'offline'])(events))],
  [
    'during a fault of a server nobody can know, and for a while after it',
    (events) => add(outage(8_000, 38_000))(watched([20, 'online'], [10_000, 'offline'], [48_000, 'online'])(events)),
  ],
  [
    'of a connection that was cut off in silence nobody knows',
    (events) => bobLeaves(9_000, { isSilent: true })(watched([20, 'online'])(events)),
  ],
  [
    'a message that was refused first, and stored when it was sent again, stands behind later ones',
    (events) => add({ event: 'refused', send: 0, code: 'muted' })(firstTwoSwapped(events)),
  ],
  [
    'his other device sent the same, and was refused where a block that had ended was not known to have',
    (events) =>
      add(
        { event: 'client', client: 3, user: 'alice', device: 'web', clean: true, transport: 'tcp' },
        { ...send(4, 3, direct, 'm0', 10) },
        { event: 'refused', send: 4, code: 'blocked' },
        { event: 'puback', send: 4, ms: 20 },
        block(true, 6),
        block(false, 8),
      )(events),
  ],
  ['the same, and the refusal was lost with its connection', (events) => add(block(true, 88), block(false, 89))(firstTwoSwapped(events))],
  ['who is blocked sees nobody', (events) => add(block(true, 88), block(false, 89))(watched([20, 'offline'])(events))],
]

for (const [title, doctor] of honest) {
  t.test(`honest: ${title}`, async (t) => {
    const verdict = judge(doctor([...clean]))
    t.same(found(verdict), [], verdict.violations.map(({ text }) => text).join('; '))
  })
}

t.test('a history that is not changed by being judged', async (t) => {
  const builder = new HistoryBuilder()
  for (const event of clean) builder.add(event)
  const history = builder.history()
  const before = structuredClone(history)
  check(history)
  t.same(history, before)
})

for (const [title, expected, doctor] of cases) {
  t.test(`${expected}: ${title}`, async (t) => {
    const verdict = judge(doctor([...clean]))
    t.same(found(verdict), [expected].flat(), verdict.violations.map(({ text }) => text).join('; '))
  })
}
