/** Connections that ask for more memory or time than a stranger may have: each has to be closed by the broker. */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import * as packets from '../helper/packets.js'
import { connectRaw, type LinkOptions, RawClient } from '../helper/raw-client.js'

export interface LimitCase {
  name: string
  /** Rejects when the broker does not close. */
  run(link: LinkOptions, connectDeadlineMs: number): Promise<unknown>
}

/** A broker that still reads after so many bytes keeps them, for it cannot do anything with half a packet. */
const swallowedBytesMax = 8 * 1024 * 1024

/** Shorter than any time a broker gives for a CONNECT: it is the length that has to end the connection. */
const swallowDeadlineMs = 3_000

const longest = packets.hex('ff ff ff 7f') // 268,435,455

/** Sends the start of a packet and then its content, until the broker closes; rejects if it takes too much. */
async function flood(client: RawClient, start: Buffer): Promise<void> {
  client.send(start)
  const chunk = Buffer.alloc(64 * 1024, 'x')
  for (let sent = 0; sent < swallowedBytesMax && !client.isClosed; sent += chunk.length) {
    client.send(chunk)
    await delay(1)
  }
  await client.expectClose(swallowDeadlineMs).finally(() => client.reset())
}

async function trickle(client: RawClient, content: Buffer, deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs
  for (const byte of content) {
    if (client.isClosed || performance.now() > end) break
    client.send(Buffer.of(byte))
    await delay(100)
  }
  await client.expectClose(Math.max(0, end - performance.now())).finally(() => client.reset())
}

const floodCase = (name: string, start: Buffer): LimitCase => ({
  name,
  run: async (link) => flood(await RawClient.open(link), start),
})

const connectedFloodCase = (name: string, start: Buffer): LimitCase => ({
  name,
  run: async (link) => flood(await connectRaw({ ...link, clientId: `bad${randomBytes(6).toString('hex')}` }), start),
})

export const limitCases: LimitCase[] = [
  floodCase('a CONNECT of 256 MB', packets.bytes(0x10, longest, packets.text('MQTT'), 4, 2)),
  floodCase('a CONNECT with a will of 16 MB', packets.bytes(0x10, packets.remainingLength(16 * 1024 * 1024), packets.text('MQTT'), 4, 6)),
  floodCase('a PUBLISH of 256 MB before CONNECT', packets.bytes(0x30, longest)),
  connectedFloodCase('a PUBLISH of 256 MB', packets.bytes(0x30, longest, packets.text('a'))),
  connectedFloodCase('a SUBSCRIBE of 256 MB', packets.bytes(0x82, longest, packets.uint16(1))),
  connectedFloodCase('a PINGREQ of 256 MB', packets.bytes(0xc0, longest)),
  connectedFloodCase('a type 0 packet of 256 MB', packets.bytes(0, longest)),
  {
    name: 'a connection that never sends its CONNECT',
    run: async (link, connectDeadlineMs) => {
      const client = await RawClient.open(link)
      await client.expectClose(connectDeadlineMs).finally(() => client.reset())
    },
  },
  {
    name: 'a CONNECT that comes byte by byte and never ends',
    run: async (link, connectDeadlineMs) => {
      const content = packets.connect({ clientId: 'slow', username: 'x'.repeat(2_000) })
      await trickle(await RawClient.open(link), content, connectDeadlineMs)
    },
  },
]
