/** One byte sequence and what a broker must make of it; `outcomeOf` sends it and tells what the broker did. */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { PacketCmd } from 'mqtt-packet'
import * as packets from '../helper/packets.js'
import { connectRaw, type LinkOptions, RawClient } from '../helper/raw-client.js'

/**
 * close: the connection is closed, without CONNACK if it is the first packet;
 * refuse: as close, but a CONNACK that refuses may come before;
 * ignore: nothing is answered, the connection goes on;
 * any: whatever the broker likes, as long as it lives.
 */
export type Expectation = 'close' | 'refuse' | 'ignore' | 'any' | `connack ${number}` | `answer ${PacketCmd}`

export interface Row {
  name: string
  spec: string
  /** Sent as the first bytes of a connection, or after a good CONNECT. */
  stage: 'first' | 'connected'
  /** A function gets the connected client when the bytes depend on what the broker sent. */
  bytes: Buffer | ((client: RawClient) => Promise<Buffer>)
  expect: Expectation
  /** Run over WebSocket, too. */
  ws?: true
}

const answerDeadlineMs = 5_000
/** How long a broker that has already answered a later PINGREQ may take to close. */
const lateCloseMs = 1_000

async function within(closed: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController()
  const late = delay(ms, false, { signal: timer.signal }).catch(() => false)
  const isClosed = await Promise.race([closed.then(() => true), late])
  timer.abort()
  return isClosed
}

/** Resolves with true when a packet of this kind came, with false when the connection was closed or nothing came. */
const comes = (client: RawClient, cmd: PacketCmd): Promise<boolean> =>
  client.expect(cmd, undefined, answerDeadlineMs).then(
    () => true,
    () => false, // the reason is read from the client by the caller
  )

/** For a first packet: 'connack 0', 'connack N' followed by a close, 'connack N, open', 'close' or 'silence'. */
async function outcomeOfFirst(client: RawClient, content: Buffer): Promise<string> {
  client.send(content)
  await comes(client, 'connack')
  const connack = client.received.find((packet) => packet.cmd === 'connack')
  if (connack?.cmd !== 'connack') return client.isClosed || (await within(client.closed, 0)) ? 'close' : 'silence'
  if (connack.returnCode === 0) return 'connack 0'
  return (await within(client.closed, lateCloseMs)) ? `connack ${connack.returnCode}` : `connack ${connack.returnCode}, open`
}

/** After a CONNECT: 'close', 'silence', 'ignore', or 'answer' with the kinds of what came. */
async function outcomeOfLater(client: RawClient, content: Buffer, expectation: Expectation): Promise<string> {
  client.received.length = 0
  client.send(content, packets.pingreq)
  const alive = await comes(client, 'pingresp')
  if (alive && expectation === 'close') await within(client.closed, lateCloseMs)
  if (alive && expectation.startsWith('answer ')) await comes(client, expectation.slice(7) as PacketCmd)
  if (client.isClosed || (await within(client.closed, 0))) return 'close'
  if (!alive) return 'silence'
  const answers = client.received.map((packet) => packet.cmd)
  answers.splice(answers.indexOf('pingresp'), 1)
  return answers.length === 0 ? 'ignore' : `answer ${answers.join(' ')}`
}

export async function outcomeOf(link: LinkOptions, { stage, bytes, expect }: Row): Promise<string> {
  const clientId = `bad${randomBytes(6).toString('hex')}`
  const client = stage === 'first' ? await RawClient.open(link) : await connectRaw({ ...link, clientId, autoAck: false })
  try {
    const content = typeof bytes === 'function' ? await bytes(client) : bytes
    return stage === 'first' ? await outcomeOfFirst(client, content) : await outcomeOfLater(client, content, expect)
  } finally {
    client.reset()
  }
}

export function isMet(expectation: Expectation, outcome: string): boolean {
  if (expectation === 'any') return true
  if (expectation === 'refuse') return outcome === 'close' || /^connack [1-9]\d*$/.test(outcome)
  if (expectation.startsWith('answer ')) return outcome.startsWith('answer ') && outcome.split(' ').includes(expectation.slice(7))
  return outcome === expectation
}
