/** The judge is judged: on a clean history it finds nothing, on each doctored one it names what was done. */
import t from 'tap'
import { type ConnectionRecord, check, type History, type SendRecord, type StoredEntry } from './helper/checker.js'

const direct = 'u/alice/bob'
const group = 'g/team'

function entryOf(conv: string, seq: number, from: string, device: string, body: unknown, type = 'text'): StoredEntry {
  const id = `${from}-${seq}`
  const raw = JSON.stringify({
    seq,
    ts: 1000 + seq,
    from,
    id,
    type,
    body,
    ...(conv === direct ? { to: from === 'bob' ? 'alice' : 'bob' } : {}),
  })
  return { seq, ts: 1000 + seq, from, device, id, raw }
}

const system = (seq: number, event: string, users: string[]): StoredEntry => entryOf(group, seq, 'alice', '', { event, users }, 'system')

function connectionOf(user: string, device: string, entries: [string, StoredEntry][], clean = false): ConnectionRecord {
  return {
    user,
    device,
    clean,
    connackAt: 1,
    readyAt: 2,
    closedAt: undefined,
    sessionPresent: false,
    ready: { replayed: 0, heads: {} },
    received: entries.map(([conv, { seq, raw }], index) => ({
      topic: conv === direct ? `u/${user}/msg` : `${conv}/msg`,
      conv,
      seq,
      raw,
      at: 100 + index,
      isAcknowledged: true,
    })),
  }
}

/** Alice sends three to bob, and one to a group in which carol is between 3 and 5. */
function createHistory(): History {
  const directLog = [1, 2, 3].map((seq) => entryOf(direct, seq, 'alice', 'phone', `d${seq}`))
  const groupLog = [
    system(1, 'created', ['alice', 'bob']),
    entryOf(group, 2, 'alice', 'phone', 'g2'),
    system(3, 'added', ['carol']),
    entryOf(group, 4, 'alice', 'phone', 'g4'),
    system(5, 'removed', ['carol']),
    entryOf(group, 6, 'alice', 'phone', 'g6'),
  ]
  const sends: SendRecord[] = [...directLog.map((e) => [direct, e] as const), ...groupLog.map((e) => [group, e] as const)]
    .filter(([, entry]) => entry.device !== '')
    .map(([conv, { seq, ts, from, device, id, raw }], index) => ({
      user: from,
      device,
      conv,
      id,
      body: (JSON.parse(raw) as { body: string }).body,
      sentAt: 10 + index,
      isPubacked: true,
      acks: [{ seq, ts, dup: false }],
      refusals: [],
    }))
  const toBob: [string, StoredEntry][] = [
    ...directLog.map((e) => [direct, e] as [string, StoredEntry]),
    ...groupLog.map((e) => [group, e] as [string, StoredEntry]),
  ]
  const reads = [
    { user: 'bob', conv: direct, by: 'history' as const, entries: directLog.map(({ seq, raw }) => ({ seq, raw })) },
    { user: 'carol', conv: group, by: 'sync' as const, entries: groupLog.slice(2, 5).map(({ seq, raw }) => ({ seq, raw })) },
  ]
  return {
    sends,
    connections: [
      connectionOf('bob', 'tab', toBob),
      connectionOf(
        'carol',
        'tab',
        groupLog.slice(2, 5).map((e) => [group, e]),
      ),
      connectionOf(
        'alice',
        'phone',
        groupLog.filter(({ device }) => device === '').map((e) => [group, e]),
      ),
    ],
    reads,
    log: new Map([
      [direct, directLog],
      [group, groupLog],
    ]),
  }
}

const logOf = (history: History, conv: string): StoredEntry[] => history.log.get(conv) as StoredEntry[]
const connection = (history: History, user: string): ConnectionRecord =>
  history.connections.find((each) => each.user === user) as ConnectionRecord

t.same(check(createHistory()), [], 'a history in which all promises are kept')

const doctored: [what: string, words: RegExp, doctor: (history: History) => void][] = [
  ['an acked message is lost', /lost: u\/alice\/bob alice-3 .* was acked as 3/, (h) => logOf(h, direct).pop()],
  [
    'a message without ack, but with PUBACK, is lost',
    /lost: .* got a PUBACK/,
    (h) => {
      logOf(h, direct).pop()
      for (const send of h.sends) send.acks = []
    },
  ],
  [
    'a message is stored twice',
    /stored twice: u\/alice\/bob alice-3/,
    (h) => {
      const twin = entryOf(direct, 4, 'alice', 'phone', 'd3')
      logOf(h, direct).push({ ...twin, id: 'alice-3' })
    },
  ],
  ['a plain text is stored twice', /stored twice: .*\(plain\)/, doublePlainText],
  ['the log has a gap', /gap: u\/alice\/bob has 3 where 2 belongs/, (h) => logOf(h, direct).splice(1, 1)],
  [
    'a seq is reused for other bytes',
    /changed: u\/alice\/bob 2 to bob/,
    (h) => Object.assign(connection(h, 'bob').received[1] as object, { raw: '{}' }),
  ],
  [
    'time goes backwards',
    /ts of u\/alice\/bob goes backwards/,
    (h) => Object.assign(logOf(h, direct)[2] as object, { ts: 1, raw: logOf(h, direct)[2]?.raw.replace('"ts":1003', '"ts":1') }),
  ],
  [
    'an ack names another seq',
    /false ack: .* was acked as 9 and is stored as 3/,
    (h) => h.sends[2]?.acks.push({ seq: 9, ts: 1, dup: true }),
  ],
  [
    'an entry was sent by nobody',
    /invented: nobody sent u\/alice\/bob 4/,
    (h) => logOf(h, direct).push(entryOf(direct, 4, 'bob', 'tab', 'x')),
  ],
  [
    "a sender's messages change places",
    /order: alice\/phone in u\/alice\/bob sent d2 \(2\) before d1 \(1\)/,
    (h) => h.sends.splice(0, 2, h.sends[1] as SendRecord, h.sends[0] as SendRecord),
  ],
  [
    'two messages are delivered in the wrong order',
    /order: u\/alice\/bob 1 to bob\/tab came after 2/,
    (h) => connection(h, 'bob').received.splice(0, 2, ...connection(h, 'bob').received.slice(0, 2).reverse()),
  ],
  [
    'one is delivered twice on a connection',
    /order: u\/alice\/bob 1 to bob\/tab came after 1/,
    (h) => connection(h, 'bob').received.splice(0, 0, ...connection(h, 'bob').received.slice(0, 1)),
  ],
  ['one is left out on the way', /gap: bob\/tab got u\/alice\/bob 1, then 3, without 2/, (h) => connection(h, 'bob').received.splice(1, 1)],
  ['the last one is never delivered', /not delivered: g\/team 6 never reached bob\/tab/, (h) => connection(h, 'bob').received.pop()],
  [
    'a live clean session misses one',
    /not delivered: g\/team 6 never reached bob\/tab/,
    (h) => {
      connection(h, 'bob').clean = true
      connection(h, 'bob').received.pop()
    },
  ],
  [
    'an outsider is given a message',
    /leak: u\/alice\/bob 1 to carol/,
    (h) => connection(h, 'carol').received.push(received(h, direct, 1, 'u/carol/msg')),
  ],
  [
    'a former member is given a message',
    /leak: g\/team 6 to carol/,
    (h) => connection(h, 'carol').received.push(received(h, group, 6, 'g/team/msg')),
  ],
  [
    'a member is given what was before his time',
    /leak: g\/team 2 to carol/,
    (h) => connection(h, 'carol').received.unshift(received(h, group, 2, 'g/team/msg')),
  ],
  [
    'history leaks',
    /leak: bob reads g\/team 7/,
    (h) => h.reads.push({ user: 'bob', conv: group, by: 'history', entries: [{ seq: 7, raw: '' }] }),
  ],
  ['sync leaves one out', /not readable: carol does not see g\/team 4 by sync/, (h) => h.reads[1]?.entries.splice(1, 1)],
  [
    'sync shows what was before',
    /leak: carol reads g\/team 2 by sync/,
    (h) => h.reads[1]?.entries.unshift({ seq: 2, raw: logOf(h, group)[1]?.raw ?? '' }),
  ],
  ['there is no ready', /no end: bob\/tab/, (h) => Object.assign(connection(h, 'bob'), { ready: undefined })],
  [
    'ready comes before the backlog',
    /ready too early: bob\/tab got u\/alice\/bob 3/,
    (h) => Object.assign(connection(h, 'bob'), { ready: { replayed: 0, heads: { 'u/alice': 3 } } }),
  ],
  ['a persistent session is gone', /session lost: bob\/tab/, (h) => splitConnection(h, { sessionPresent: false })],
  [
    'what was not acknowledged does not come again',
    /not delivered: u\/alice\/bob 1 was not acknowledged by bob\/tab/,
    (h) => {
      splitConnection(h, { sessionPresent: true })
      Object.assign(connection(h, 'bob').received[0] as object, { isAcknowledged: false })
    },
  ],
]

function received(history: History, conv: string, seq: number, topic: string) {
  return { topic, conv, seq, raw: logOf(history, conv)[seq - 1]?.raw ?? '', at: 500, isAcknowledged: true }
}

function doublePlainText(history: History): void {
  Object.assign(history.sends[2] as object, { id: undefined })
  logOf(history, direct).push(entryOf(direct, 4, 'alice', 'phone', 'd3'))
}

/** Bob's connection breaks behind the second message, and another one brings the rest. */
function splitConnection(history: History, second: Partial<ConnectionRecord>): void {
  const whole = connection(history, 'bob')
  const rest = { ...whole, ...second, received: whole.received.splice(2) }
  whole.closedAt = 300
  history.connections.push(rest)
}

for (const [what, words, doctor] of doctored) {
  const history = createHistory()
  doctor(history)
  const faults = check(history)
  t.ok(
    faults.some((fault) => words.test(fault)),
    `it is noticed when ${what}`,
    { faults },
  )
}

const resumed = createHistory()
splitConnection(resumed, { sessionPresent: true })
t.same(check(resumed), [], 'a persistent session over two connections')
