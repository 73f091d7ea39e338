/** As much of a MongoDB server as a client needs to take it for one: greets, answers `find` with nothing and everything else with ok. */
import { createServer, type Server, type Socket } from 'node:net'
import { BSON } from 'mongodb'
import type { Test } from 'tap'
import { portOf } from '../../audit/tcp-link.js'

const opReply = 1
const opMsg = 2013
const headerBytes = 16

export interface FakeMongodb {
  url: string
  /** Holds back what it would answer to commands, greetings excepted. */
  isSilent: boolean
  /** Takes no bytes any more. */
  stopReading(): void
  /** All connections at once, without an error. */
  endAll(): void
}

const greeting = { ok: 1, helloOk: true, isWritablePrimary: true, ismaster: true, minWireVersion: 0, maxWireVersion: 21 }
const limits = { maxBsonObjectSize: 16_777_216, maxMessageSizeBytes: 48_000_000, maxWriteBatchSize: 100_000 }

export async function startFakeMongodb(t: Test): Promise<FakeMongodb> {
  const sockets = new Set<Socket>()
  const fake: FakeMongodb = {
    url: '',
    isSilent: false,
    stopReading: () => sockets.forEach((socket) => void socket.pause()),
    endAll: () => sockets.forEach((socket) => void socket.end()),
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    let bytes: Buffer = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk])
      for (; bytes.length >= headerBytes && bytes.length >= bytes.readInt32LE(0); bytes = bytes.subarray(bytes.readInt32LE(0))) {
        const answer = answerTo(bytes.subarray(0, bytes.readInt32LE(0)), fake.isSilent)
        if (answer !== undefined) socket.write(answer)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => close(server, sockets))
  fake.url = `mongodb://127.0.0.1:${portOf(server)}/?directConnection=true`
  return fake
}

function close(server: Server, sockets: Iterable<Socket>): void {
  for (const socket of sockets) socket.destroy()
  server.close()
}

function answerTo(message: Buffer, isSilent: boolean): Buffer | undefined {
  const id = message.readInt32LE(4)
  const isMessage = message.readInt32LE(12) === opMsg
  const command = isMessage ? BSON.deserialize(message.subarray(headerBytes + 5)) : { hello: 1 }
  const isGreeting = 'hello' in command
  if (isSilent && !isGreeting) return undefined
  const found = 'find' in command ? { cursor: { firstBatch: [], id: BSON.Long.ZERO, ns: 'test.test' } } : {}
  const body = BSON.serialize({ ...(isGreeting ? { ...greeting, ...limits } : { ok: 1 }), ...found })
  // Of OP_MSG: no flags, one section of kind 0; of OP_REPLY: flags, cursor, where it starts, and that one document comes.
  const start = Buffer.alloc(isMessage ? 5 : 20)
  if (!isMessage) start.writeInt32LE(1, 16)
  const header = Buffer.alloc(headerBytes)
  header.writeInt32LE(headerBytes + start.length + body.length, 0)
  header.writeInt32LE(id, 8)
  header.writeInt32LE(isMessage ? opMsg : opReply, 12)
  return Buffer.concat([header, start, body])
}
