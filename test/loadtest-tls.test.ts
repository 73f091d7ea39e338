/** The load tool over TLS, alone and below WebSocket, on each broker that it starts with a certificate of the run. */
import { spawnSync } from 'node:child_process'
import t from 'tap'
import { figuresOf } from './helper/load-run.js'

const withSbin = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/usr/local/sbin` }

t.test('direct in TLS, over WebSocket in TLS', async (t) => {
  for (const transport of ['tls', 'wss']) {
    const run = await figuresOf(`direct --clients 4 --transport ${transport} --seconds 0.5 --warmup 0`)
    t.ok(run.sent > 0, transport)
    t.equal(run.delivered, run.sent)
  }
})

const peers = ['aedes', 'sink', ...(spawnSync('mosquitto', ['-h'], { env: withSbin }).error === undefined ? ['mosquitto'] : [])]
t.test(`the same on the yardsticks ${peers.join(', ')}`, async (t) => {
  for (const peer of peers) {
    for (const transport of peer === 'aedes' ? ['tls', 'wss'] : ['tls']) {
      const run = await figuresOf(`direct --peer-only ${peer} --clients 4 --transport ${transport} --seconds 0.3 --warmup 0`)
      t.ok(run.sent > 0, `${peer} ${transport}`)
      t.equal(run.delivered, run.sent)
    }
  }
})

t.test('reconnect-storm in TLS', async (t) => {
  const run = await figuresOf('reconnect-storm --clients 10 --warmup 0 --transport tls')
  t.equal(run.delivered, 20)
})
