/**
 * Stock clients through the whole of it, as somebody would try it who knows only the README: mqtt.js over TCP and WebSocket while
 * the server is killed, mosquitto on application topics while it is restarted, one device on plain mosquitto, and the ways in
 * which a server that was started by npm is told to stop. What needs mosquitto is skipped where it is not installed.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import mqtt, { type MqttClient } from 'mqtt'
import t from 'tap'
import { eventually } from './helper/eventually.js'
import { type Owner, type ServerProcess, startServer, tokenOf } from './helper/server-process.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const mosquitto = ['mosquitto_pub', 'mosquitto_sub'].every((name) => spawnSync(name, ['--help']).error === undefined)
const skip = mosquitto ? false : 'mosquitto_pub and mosquitto_sub are not installed'
const timeoutMs = 20_000

t.setTimeout(120_000)

interface Message {
  seq: number
  id: string
  from: string
  body: unknown
}

async function publish(server: ServerProcess, args: readonly string[]): Promise<void> {
  const child = spawn('mosquitto_pub', ['-p', String(server.mqttPort), ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', (chunk) => {
    complaint += chunk
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`mosquitto_pub ${args.join(' ')} ended with ${code}: ${complaint}`)
}

/** The lines that a mosquitto_sub prints; ended with the test. */
function subscribe(owner: Owner, server: ServerProcess, args: readonly string[]): { lines: string[]; child: ChildProcess } {
  const child = spawn('mosquitto_sub', ['-p', String(server.mqttPort), ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
  owner.teardown(() => child.kill('SIGKILL'))
  const lines: string[] = []
  let rest = ''
  child.stdout.on('data', (chunk) => {
    const parts = `${rest}${chunk}`.split('\n')
    rest = parts.pop() ?? ''
    lines.push(...parts)
  })
  return { lines, child }
}

t.test(
  'mqtt.js, with its own reconnects, over TCP and WebSocket, through kill -9: nothing acknowledged is lost, nothing twice',
  async (t) => {
    const server = await startServer(t)
    const clients: MqttClient[] = []
    t.teardown(() => Promise.all(clients.map((client) => client.endAsync(true))))
    const client = async (user: string, device: string, transport: 'tcp' | 'ws', isClean: boolean): Promise<MqttClient> => {
      const password = await tokenOf(user)
      const address = () => (transport === 'tcp' ? `mqtt://127.0.0.1:${server.mqttPort}` : `ws://127.0.0.1:${server.httpPort}/mqtt`)
      const made = mqtt.connect(address(), { username: user, password, clientId: device, clean: isClean, reconnectPeriod: 50 })
      // The server has other ports after a restart.
      made.on('close', () => {
        if (transport === 'tcp') made.options.port = server.mqttPort
        else made.options.port = server.httpPort
      })
      // A refused connect while the server is away: it tries again by itself.
      made.on('error', () => undefined)
      clients.push(made)
      await new Promise<void>((resolve) => made.once('connect', () => resolve()))
      return made
    }
    const heard: Message[] = []
    const bob = await client('bob', 'phone', 'ws', false)
    bob.on('message', (topic, payload) => {
      if (topic === 'u/bob/msg') heard.push(JSON.parse(payload.toString()))
    })
    const senders = [await client('alice', 'phone', 'tcp', true), await client('carol', 'phone', 'ws', false)]
    const names = ['alice', 'carol']
    const count = 400
    let acknowledged = 0
    const sending = senders.map(async (sender, who) => {
      for (let n = 0; n < count; n += 8) {
        const eight = Array.from({ length: 8 }, (_, k) => JSON.stringify({ id: `${names[who]}-${n + k}`, body: `${n + k}` }))
        await Promise.all(eight.map((payload) => sender.publishAsync('u/bob/msg', payload, { qos: 1 }).then(() => acknowledged++)))
      }
    })
    for (const part of [0.3, 0.7]) {
      await eventually(() => acknowledged >= 2 * count * part, { timeoutMs, what: `${part} of the messages are acknowledged` })
      await server.kill()
      await server.start()
    }
    await Promise.all(sending)
    for (const name of names) {
      const stored = await server.history('bob', `u/${name}`)
      t.same(
        stored.map(({ seq }) => seq),
        Array.from({ length: count }, (_, n) => n + 1),
        'each is stored once, without gaps',
      )
      t.same(new Set(stored.map(({ id }) => id)).size, count)
      await eventually(() => new Set(heard.filter(({ from }) => from === name).map(({ seq }) => seq)).size === count, { timeoutMs })
      const firsts = [...new Set(heard.filter(({ from }) => from === name).map(({ seq }) => seq))]
      t.same(
        firsts,
        [...firsts].sort((a, b) => a - b),
        'heard in order, but for repeats',
      )
      for (const { seq, id } of heard.filter(({ from }) => from === name))
        if (stored[seq - 1]?.id !== id) t.fail(`${id} was heard as ${seq}`)
    }
  },
)

t.test('mosquitto alone: a device that is away gets what it missed, in order, once, also after kill -9', { skip }, async (t) => {
  const server = await startServer(t)
  const as = async (user: string) => ['-u', user, '-P', await tokenOf(user), '-q', '1']
  const phone = [...(await as('bob')), '-i', 'phone', '-c', '-t', 'u/bob/#']
  const alice = [...(await as('alice')), '-i', 'laptop', '-t', 'u/bob/msg']
  const first = subscribe(t, server, phone)
  await eventually(() => first.lines.some((line) => line.includes('"ready"')), { timeoutMs })
  first.child.kill('SIGKILL')
  for (const n of [1, 2, 3]) await publish(server, [...alice, '-m', `plain ${n}`])
  await server.kill()
  await server.start()
  await publish(server, [...alice, '-m', '{"id":"c4","body":"json"}'])
  await publish(server, [...alice, '-m', '{"id":"c4","body":"json"}'])
  const second = subscribe(t, server, phone)
  await eventually(() => second.lines.some((line) => line.includes('"ready"')), { timeoutMs })
  t.same(
    second.lines
      .map((line) => JSON.parse(line))
      .map(({ seq, body, type, replayed }) => (type === 'ready' ? `ready ${replayed}` : `${seq} ${body}`)),
    ['1 plain 1', '2 plain 2', '3 plain 3', '4 json', 'ready 4'],
  )
})

t.test('mosquitto on application topics: retained, will, QoS 2 and a persistent session, over restarts', { skip }, async (t) => {
  const server = await startServer(t, {
    PARLEY_ANONYMOUS: 'on',
    PARLEY_TOPICS: '[{"topic":"test/nosubscribe","publish":true},{"topic":"#","publish":true,"subscribe":true}]',
  })
  const away = ['-i', 'away', '-c', '-q', '2', '-t', 'queue/#', '-F', '%t %p %q']
  const asleep = subscribe(t, server, [...away, '-E'])
  await once(asleep.child, 'close')
  await publish(server, ['-t', 'kept/a', '-m', 'one', '-q', '1', '-r'])
  await publish(server, ['-t', 'queue/1', '-m', 'm1', '-q', '2'])
  await publish(server, ['-t', 'queue/2', '-m', 'm2', '-q', '2'])
  const dying = subscribe(t, server, [
    '-t',
    'other',
    '-F',
    '%p',
    '--will-topic',
    'kept/will',
    '--will-payload',
    'gone',
    '--will-qos',
    '1',
    '--will-retain',
  ])
  const watching = subscribe(t, server, ['-t', 'kept/#', '-t', 'other', '-F', '%t %p %r'])
  // Who has the first message of "other" is subscribed.
  await eventually(
    async () => {
      await publish(server, ['-t', 'other', '-m', 'now'])
      return dying.lines.length > 0 && watching.lines.includes('other now 0')
    },
    { timeoutMs },
  )
  t.ok(watching.lines.includes('kept/a one 1'), 'a retained message comes with its flag')
  dying.child.kill('SIGKILL')
  await eventually(() => watching.lines.includes('kept/will gone 0'), { timeoutMs, what: 'the will is heard' })
  t.same(await server.stop(), { code: 0, signal: null })
  await server.start()
  await publish(server, ['-t', 'queue/3', '-m', 'm3', '-q', '2'])
  // What application topics acknowledge is saved behind it.
  await eventually(async () => (await server.metric('parley_application_changes_unsaved')) === 0, { timeoutMs, what: 'm3 is saved' })
  await server.kill()
  await server.start()
  const back = subscribe(t, server, away)
  await eventually(() => back.lines.length >= 3, { timeoutMs, what: 'the session has its messages' })
  t.same(back.lines, ['queue/1 m1 2', 'queue/2 m2 2', 'queue/3 m3 2'])
  const late = subscribe(t, server, ['-t', 'kept/#', '-F', '%t %p %r'])
  await eventually(() => late.lines.length >= 2, { timeoutMs, what: 'what was retained is there' })
  t.same([...late.lines].sort(), ['kept/a one 1', 'kept/will gone 1'])
})

t.test('the start script of npm: a signal to its shell ends the server in order', async (t) => {
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> }
  const env = { ...process.env, PARLEY_MQTT_PORT: '0', PARLEY_HTTP_PORT: '0', PARLEY_DATA_DIR: `${t.testdir()}/data` }
  const shell = spawn('sh', ['-c', scripts.start ?? ''], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => shell.kill('SIGKILL'))
  let logged = ''
  shell.stderr.on('data', (chunk) => {
    logged += chunk
  })
  shell.stdout.resume()
  await eventually(() => logged.includes('"listening"'), { timeoutMs })
  const ended = once(shell, 'close')
  shell.kill('SIGTERM')
  t.same(await ended, [0, null])
  t.match(logged, /"drained"/)
})
