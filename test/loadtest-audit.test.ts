/**
 * The load tool against a broker that breaks its promises on purpose: each kind of fault must be found and named, and a
 * broker that keeps them must come out clean.
 */
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import { Crew } from '../loadtest/crew.js'
import type { Faults } from '../loadtest/faults.js'
import { encodeFrame, encodePublish, FrameReader, packet } from '../loadtest/frames.js'
import type { Audit, LoadJob } from '../loadtest/orders.js'
import type { Dialect } from '../loadtest/participant.js'

type Fault =
  | 'none'
  | 'lose'
  | 'repeat'
  | 'swap'
  | 'misdeliver'
  | 'no-puback'
  | 'hang-up'
  | 'no-ack'
  | 'refuse'
  | 'ack-twice'
  | 'seq-gap'
  | 'seq-back'

/** Number of the message, of each sender, that the fault strikes. */
const victim = 7

interface Member {
  user: string
  socket: Socket
  held: Buffer | undefined
  count: number
}

/** Speaks as much MQTT and Parley as a pair of clients needs, with one fault. */
function faultyBroker(fault: Fault, dialect: Dialect): { listen(): Promise<number>; close(): void } {
  const members = new Map<string, Member>()
  const sockets = new Set<Socket>()
  let seq = 0

  const onPublish = (from: Member, topic: string, packetId: Buffer, payload: string): void => {
    const to = members.get(topic.split('/')[1] ?? '')
    const number = from.count++
    const strikes = number === victim
    const message = JSON.parse(payload)
    const skipped = strikes && fault === 'seq-gap' ? 2 : 1
    seq += skipped
    const said = strikes && fault === 'seq-back' ? seq - 1 : seq
    const stored = dialect === 'plain' ? message : { seq: said, ts: 1_732_340_000_000, from: from.user, to: to?.user, ...message }
    if (!(strikes && fault === 'no-puback')) from.socket.write(Buffer.concat([Buffer.from([packet.puback, 2]), packetId]))
    if (dialect === 'parley') ack(from, { id: message.id, conv: `u/${to?.user}`, seq, ts: 1_732_340_000_000 }, strikes)
    deliver(
      strikes && fault === 'misdeliver' ? from : to,
      encodePublish(`u/${to?.user}/msg`, 1 + (number % 1000), Buffer.from(JSON.stringify(stored))),
      strikes,
    )
    if (strikes && fault === 'hang-up') from.socket.destroy()
  }

  const ack = (from: Member, good: { id: string; conv: string; seq: number; ts: number }, strikes: boolean): void => {
    if (strikes && fault === 'no-ack') return
    const refusal = { id: good.id, topic: 'u/x/msg', error: { code: 'internal', message: 'on purpose' } }
    const body = Buffer.from(JSON.stringify(strikes && fault === 'refuse' ? refusal : good))
    const frame = encodePublish(`u/${from.user}/ack`, 2000, body)
    from.socket.write(frame)
    if (strikes && fault === 'ack-twice') from.socket.write(frame)
  }

  const deliver = (to: Member | undefined, frame: Buffer, strikes: boolean): void => {
    if (to === undefined || (strikes && fault === 'lose')) return
    if (strikes && fault === 'swap') {
      to.held = frame
      return
    }
    to.socket.write(frame)
    if (strikes && fault === 'repeat') to.socket.write(frame)
    if (to.held !== undefined) to.socket.write(to.held)
    to.held = undefined
  }

  const server = createServer((socket) => {
    sockets.add(socket)
    const member: Member = { user: '', socket, held: undefined, count: 0 }
    const reader = new FrameReader()
    const frame = (head: number, bytes: Buffer, start: number, end: number): void => {
      if (head === packet.connect) {
        const clientId = bytes.toString('utf8', start + 12, start + 12 + bytes.readUInt16BE(start + 10))
        const userAt = start + 12 + clientId.length
        const isScoped = dialect === 'parley'
        member.user = isScoped
          ? bytes.toString('utf8', userAt + 2, userAt + 2 + bytes.readUInt16BE(userAt))
          : clientId.replace(/-load$/, '')
        members.set(member.user, member)
        socket.write(Buffer.from([packet.connack, 2, 0, 0]))
      } else if (head === packet.subscribe) {
        socket.write(encodeFrame(packet.suback, bytes.subarray(start, start + 2), Buffer.from([1])))
      } else if ((head & 0xf0) === packet.publish) {
        const topicEnd = start + 2 + bytes.readUInt16BE(start)
        const packetId = Buffer.from(bytes.subarray(topicEnd, topicEnd + 2))
        onPublish(member, bytes.toString('utf8', start + 2, topicEnd), packetId, bytes.toString('utf8', topicEnd + 2, end))
      }
    }
    socket.on('data', (chunk: Buffer) => reader.push(chunk, chunk.length, { frame }))
    socket.on('error', () => socket.destroy())
  })
  return {
    listen: () =>
      new Promise((resolve) => {
        server.listen(0, '127.0.0.1', () => {
          const address = server.address()
          resolve(typeof address === 'object' && address !== null ? address.port : 0)
        })
      }),
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** Returns early when nothing has arrived for a while, as after a hang-up. */
async function untilDelivered(crew: Crew, wanted: number): Promise<void> {
  let [delivered, movedAt] = [0, performance.now()]
  while (delivered < wanted && performance.now() - movedAt < 1_000) {
    await new Promise((resolve) => setTimeout(resolve, 5))
    const now = crew.read().delivered
    if (now > delivered) movedAt = performance.now()
    delivered = now
  }
}

async function auditOf(fault: Fault, dialect: Dialect): Promise<Audit> {
  const broker = faultyBroker(fault, dialect)
  const port = await broker.listen()
  const job: LoadJob = {
    ...{ scenario: 'direct', clients: 2, members: 0, senders: 0, offline: 0, frozen: 0, messages: 0, inFlight: 4, bodyBytes: 60 },
    ...{ persistent: false, rampMs: 0, endpoints: [{ transport: 'tcp', host: '127.0.0.1', port, path: '/mqtt' }] },
    ...{ dialect, secret: 'secret-of-this-test', prefix: 'audit', process: 0, processes: 1, drainMs: 400 },
  }
  const crew = new Crew(job)
  try {
    await crew.connect()
    await crew.prepare()
    crew.start()
    await untilDelivered(crew, 100)
    return await crew.drain(await crew.stop())
  } finally {
    broker.close()
  }
}

const cases: { fault: Fault; dialect: Dialect; kind: keyof Faults; note: RegExp }[] = [
  { fault: 'lose', dialect: 'plain', kind: 'lost', note: /lost 1 of \d+ messages from sender [01], the first is number 7/ },
  { fault: 'repeat', dialect: 'plain', kind: 'duplicates', note: /1 messages from sender [01] came twice/ },
  { fault: 'swap', dialect: 'plain', kind: 'outOfOrder', note: /came after a later one/ },
  { fault: 'misdeliver', dialect: 'plain', kind: 'misdelivered', note: /not for this client/ },
  { fault: 'no-puback', dialect: 'plain', kind: 'ackFaults', note: /1 sends got no PUBACK/ },
  { fault: 'hang-up', dialect: 'plain', kind: 'connectionsLost', note: /the connection ended/ },
  { fault: 'lose', dialect: 'parley', kind: 'lost', note: /lost 1 of/ },
  { fault: 'no-ack', dialect: 'parley', kind: 'ackFaults', note: /1 of \d+ sends got no ack message/ },
  { fault: 'refuse', dialect: 'parley', kind: 'ackFaults', note: /refused: .*on purpose/ },
  { fault: 'ack-twice', dialect: 'parley', kind: 'ackFaults', note: /1 sends were acked twice/ },
  { fault: 'seq-gap', dialect: 'parley', kind: 'seqFaults', note: /gaps or repeats/ },
  { fault: 'seq-back', dialect: 'parley', kind: 'seqFaults', note: /seq/ },
]

for (const dialect of ['plain', 'parley'] as const) {
  t.test(`a ${dialect} broker that keeps its promises`, async (t) => {
    const { faults, notes, sent, delivered } = await auditOf('none', dialect)
    t.same(notes, [])
    t.same(
      Object.values(faults).filter((count) => count > 0),
      [],
    )
    t.ok(sent >= 100)
    t.equal(delivered, sent)
  })
}

for (const { fault, dialect, kind, note } of cases) {
  t.test(`${fault} (${dialect}) is found`, async (t) => {
    const { faults, notes } = await auditOf(fault, dialect)
    t.ok(faults[kind] > 0, `${kind} is counted`)
    t.match(notes.join('\n'), note)
  })
}
