/**
 * Malformed packets beside the chat: a grammar makes packets of every type, mostly right and now and then wrong in a field, and
 * their bytes are changed, cut, doubled or split. It connects with good tokens of users of its own, so that it gets
 * past CONNECT, and speaks only of them. Whatever the server answers is right, as long as it lives and others do not notice.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { fuzzUsers } from './cast.js'
import * as packets from './packets.js'
import { openPipe, type Pipe } from './pipe.js'
import { pick, type Random } from './random.js'

export interface FuzzWorld {
  random: Random
  ports: { mqttPort: number; httpPort: number }
  token(user: string, lifeSeconds: number): Promise<string>
}

export interface FuzzCounts {
  tcp: number
  ws: number
  /** Connections that were welcomed: what they sent after CONNECT was looked at. */
  welcome: number
  packets: number
}

export interface Fuzz {
  readonly counts: FuzzCounts
  /** Resolves when the last connection is closed. */
  stop(): Promise<void>
}

const lanes = 3
const packetsMax = 24
const restMs = 20
const answerMsMax = 300
const tokenSeconds = 6 * 3_600

export function startFuzz(world: FuzzWorld): Fuzz {
  let isStopped = false
  const counts: FuzzCounts = { tcp: 0, ws: 0, welcome: 0, packets: 0 }
  const lane = async (): Promise<void> => {
    while (!isStopped) {
      await fuzzOnce(world, counts)
      await delay(restMs + world.random(restMs))
    }
  }
  const ended = Promise.all(Array.from({ length: lanes }, lane))
  return {
    counts,
    async stop() {
      isStopped = true
      await ended
    },
  }
}

async function fuzzOnce({ random, ports, token }: FuzzWorld, counts: FuzzCounts): Promise<void> {
  const user = pick(random, fuzzUsers)
  const password = await token(user, tokenSeconds)
  const hello = helloOf(random, user, password)
  const transport = random(2) === 0 ? 'tcp' : 'ws'
  counts[transport]++
  let isAnswered = false
  let answer = (): void => undefined
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  await new Promise<void>((resolve) => {
    const pipe: Pipe = openPipe(transport, ports, {
      opened: () => void talk(pipe, hello, answered, random, counts),
      data: (chunk) => {
        if (!isAnswered && chunk[0] === packets.packetType.connack << 4 && chunk[3] === 0) counts.welcome++
        isAnswered = true
        answer()
      },
      closed: resolve,
    })
    setTimeout(() => pipe.destroy(), 2_000)
  })
}

async function talk(pipe: Pipe, hello: Buffer, answered: Promise<void>, random: Random, counts: FuzzCounts): Promise<void> {
  const count = 1 + random(packetsMax)
  pipe.write(random(6) === 0 ? mutate(hello, random) : hello)
  // Some do not wait for CONNACK.
  if (random(4) > 0) await Promise.race([answered, delay(answerMsMax)])
  for (let i = 0; i < count; i++) {
    const content = makePacket(random)
    writeInPieces(pipe, random(3) === 0 ? mutate(content, random) : content, random)
    counts.packets++
    if (random(4) === 0) await delay(random(30))
  }
  if (random(3) > 0) await delay(50)
  pipe.destroy()
}

function writeInPieces(pipe: Pipe, content: Buffer, random: Random): void {
  if (random(4) > 0 || content.length < 2) return pipe.write(content)
  const at = 1 + random(content.length - 1)
  pipe.write(content.subarray(0, at))
  pipe.write(content.subarray(at))
}

// --- the grammar ------------------------------------------------------------------------------------------------------

const oddTexts = ['', '/', '#', '+', 'u/', 'g//msg', '$SYS/x', 'constructor', '__proto__', 'u/\u0000/msg', '\uffff', 'x/'.repeat(300)]

/** Mostly a good one; otherwise of another version, with another name, or with a will on any topic. */
function helloOf(random: Random, user: string, password: string): Buffer {
  const good = { clientId: `f${random(4)}`, clean: random(2) === 0, keepaliveSeconds: 5, username: user, password }
  const will = { topic: topicOf(random), payload: payloadOf(random).slice(0, 2_000), qos: random(3), retain: random(3) === 0 }
  switch (random(8)) {
    case 0:
      return packets.connect({ ...good, protocol: { name: pick(random, ['MQTT', 'MQIsdp', 'mqtt', '']), level: random(7) } })
    case 1:
      return packets.connect({ ...good, clientId: pick(random, [...oddTexts, 'x'.repeat(random(300))]) })
    case 2:
      return packets.connect({ ...good, username: pick(random, [...oddTexts, user]), password: password.slice(random(password.length)) })
    case 3:
    case 4:
      return packets.connect({ ...good, will })
    default:
      return packets.connect(good)
  }
}

const topicOf = (random: Random): string => {
  const target = pick(random, fuzzUsers)
  return pick(random, [
    ...[
      `u/${target}/msg`,
      `u/${target}/msg`,
      `u/${target}/read`,
      `g/fuzz${random(3)}/msg`,
      `g/fuzz${random(3)}/read`,
      `fuzz/${random(9)}`,
      `fuzz/${random(9)}`,
    ],
    ...['rpc/history', 'rpc/sync', 'rpc/conversations', 'rpc/group.get', 'rpc/nothing', `u/${target}/ack`],
    pick(random, oddTexts),
  ])
}

const filterOf = (random: Random): string =>
  pick(random, [topicOf(random), 'u/+/msg', 'g/#', '#', 'fuzz/+', 'a#', '+a', pick(random, oddTexts)])

/** JSON of every shape that a server must survive. */
function jsonOf(random: Random, depth = 0): unknown {
  const leaf = [null, true, 0, -1, 1e308, 2 ** 53, '', 'x', 'u/fuzz1', 'g/fuzz0', '\u0000', '__proto__', 'd800\ud800']
  if (depth > 3 || random(3) === 0) return pick(random, leaf)
  if (random(2) === 0) return Array.from({ length: random(4) }, () => jsonOf(random, depth + 1))
  const keys = ['id', 'type', 'body', 're', 'mentions', 'meta', 'params', 'conv', 'seq', 'limit', 'cursors', '__proto__', 'constructor']
  return Object.fromEntries(Array.from({ length: random(5) }, () => [pick(random, keys), jsonOf(random, depth + 1)]))
}

function payloadOf(random: Random): string {
  const chance = random(8)
  if (chance < 3) return JSON.stringify(jsonOf(random))
  if (chance === 3) return '['.repeat(random(20_000))
  if (chance === 4) return '.'.repeat(random(70_000))
  return JSON.stringify({
    id: `f${random(50)}`,
    type: pick(random, ['text', 'recall', 'edit', 'reaction', 'x-y', 'system']),
    body: jsonOf(random),
  })
}

const packetIdOf = (random: Random): number => pick(random, [1, 2, 3, 0, 32_767, 32_768, 65_535, random(65_536)])

const flagsOf = (random: Random): { dup: boolean; retain: boolean } => ({ dup: random(4) === 0, retain: random(6) === 0 })

function makePacket(random: Random): Buffer {
  const packetId = packetIdOf(random)
  switch (random(12)) {
    case 0:
      return packets.subscribe(
        packetId,
        Array.from({ length: random(4) }, () => filterOf(random)),
        random(4),
      )
    case 1:
      return packets.unsubscribe(packetId, filterOf(random))
    case 2:
    case 3:
      return packets.acknowledgement(pick(random, [4, 5, 6, 7]), packetId)
    case 4:
      return random(4) === 0 ? packets.disconnect : packets.pingreq
    case 5:
      return packets.packet(random(16), random(16), Buffer.from(payloadOf(random).slice(0, random(60))))
    default:
      return packets.publish({
        topic: topicOf(random),
        payload: payloadOf(random),
        qos: random(8) === 0 ? 3 : random(3),
        packetId,
        ...flagsOf(random),
      })
  }
}

function mutate(content: Buffer, random: Random): Buffer {
  const at = random(content.length)
  const [before, after] = [content.subarray(0, at), content.subarray(at)]
  switch (random(6)) {
    case 0:
      return Buffer.concat([before, Buffer.of(random(256)), after.subarray(1)])
    case 1:
      return Buffer.concat([before, Buffer.of(random(256)), after])
    case 2:
      return Buffer.concat([before, after.subarray(1)])
    case 3:
      return Buffer.concat([before, before, after])
    case 4:
      return before
    default:
      return Buffer.concat([content.subarray(0, 1), Buffer.of(random(256), random(256)), content.subarray(2)])
  }
}
