/**
 * Small things that are kept for long, each of them come between large packets that are not: the server's memory grows by what is kept, and not
 * by the pools from which Node cuts buffers, of which each small thing could keep one.
 */
import t, { type Test } from 'tap'
import { eventually } from '../helper/eventually.js'
import { connectRaw, type RawClient } from '../helper/raw-client.js'
import { ServerProcess, tokenOf } from '../helper/server-process.js'

const megabyte = 1_048_576
const count = 60
/** One pool each would be 15 MB. */
const grownMax = 4 * megabyte
t.setTimeout(90_000)

/** A server that collects garbage all the time, so that what it holds is what it keeps. */
function startTidy(owner: Test): Promise<ServerProcess> {
  const tidy = "require('node:v8').setFlagsFromString('--expose-gc'); setInterval(require('node:vm').runInNewContext('gc'), 100).unref()"
  const dir = owner.testdir({ 'tidy.cjs': tidy })
  const rules = JSON.stringify([{ topic: 'iot/#', publish: true, subscribe: true }])
  return new ServerProcess(owner, `${dir}/data`, { NODE_OPTIONS: `--require ${dir}/tidy.cjs`, PARLEY_TOPICS: rules }).start()
}

const heldBytes = (server: ServerProcess): Promise<number> => server.metric('parley_nodejs_external_memory_bytes')

/** When nothing is left to collect. */
async function keptBytes(server: ServerProcess): Promise<number> {
  let bytes = await heldBytes(server)
  const isSteady = async (): Promise<boolean> => {
    const before = bytes
    bytes = await heldBytes(server)
    return Math.abs(bytes - before) < megabyte / 10
  }
  await eventually(isSteady, { everyMs: 300, timeoutMs: 20_000, what: 'memory is steady' })
  return bytes
}

t.test('small things among large packets', async (t) => {
  const server = await startTidy(t)
  const open = async (user: string, clientId: string, more: object = {}): Promise<RawClient> =>
    connectRaw({ port: server.mqttPort, username: user, password: await tokenOf(user), clientId, keepaliveS: 0, ...more })
  const sender = await open('ann', 'sender')
  const away = await open('bob', 'away', { clean: false })
  await away.subscribe(['iot/queued/#', 1])
  await away.disconnect()
  const large = 'x'.repeat(60_000)
  const amongLarge = async (keep: (index: number) => Promise<unknown>): Promise<void> => {
    for (let index = 0; index < count; index++) {
      await Promise.all(Array.from({ length: 5 }, () => sender.publish('iot/nobody', large, { qos: 1 })))
      await keep(index)
    }
  }
  await amongLarge(async () => undefined)
  const kinds: Record<string, (index: number) => Promise<unknown>> = {
    messages: (index) => sender.publish('u/bob/msg', JSON.stringify({ id: `m${index}`, body: 'x' }), { qos: 1 }),
    retained: (index) => sender.publish(`iot/retained/${index}`, 'x', { qos: 1, retain: true }),
    queued: (index) => sender.publish(`iot/queued/${index}`, 'x', { qos: 1 }),
    wills: (index) => open('cat', `will${index}`, { will: { topic: 'iot/will', payload: 'gone', qos: 0 } }),
  }
  for (const [kind, keep] of Object.entries(kinds)) {
    const before = await keptBytes(server)
    await amongLarge(keep)
    await eventually(
      async () => {
        const grown = (await heldBytes(server)) - before
        return grown < grownMax || Promise.reject(new Error(`${Math.round(grown / megabyte)} MB for ${count} ${kind}`))
      },
      { timeoutMs: 20_000, what: `memory for ${kind}` },
    )
  }
})
