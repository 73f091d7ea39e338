import t from 'tap'
import { readConfig } from '../broker/config.js'
import type { Publish } from '../broker/plugin.js'
import { createLimits, limits } from '../plugins/limits.js'

const publish = (bytes = 1): Publish => ({
  topic: 'u/bob/msg',
  payload: Buffer.alloc(bytes),
  qos: 1,
  retain: false,
  dup: false,
  packetId: 1,
})

function setUp(env: Record<string, string>, bucketsMax?: number) {
  let now = 5000
  const plugin = createLimits(readConfig(env), () => now, bucketsMax)
  return {
    wait: (ms: number) => {
      now += ms
    },
    send: (user: string, device = 'phone', bytes = 1) => plugin.authorizePublish?.({ user, device }, publish(bytes)),
  }
}

t.test('a burst, then the rate, over all devices of a user', async (t) => {
  const { send, wait } = setUp({ PARLEY_RATE_LIMIT: '10/s burst 3' })
  t.equal(send('alice', 'phone'), undefined)
  t.equal(send('alice', 'laptop'), undefined)
  t.equal(send('alice', 'phone'), undefined)
  const refusal = send('alice', 'tablet')
  t.match(refusal?.body(), { code: 'rate_limited', retry_after_ms: 100 })
  t.equal(send('bob'), undefined, 'others are not affected')
  wait(40)
  t.equal(send('alice')?.retryAfterMs, 60)
  wait(60)
  t.equal(send('alice'), undefined, 'who waits as told is let through')
  t.equal(send('alice')?.code, 'rate_limited')
  wait(60_000)
  for (let n = 0; n < 3; n++) t.equal(send('alice'), undefined)
  t.equal(send('alice')?.code, 'rate_limited', 'no more than the burst is saved up')
})

t.test('who waits as long as told is let through, at any rate', async (t) => {
  for (const rate of ['0.3/s', '3/s', '7/s', '11/s', '33.3/s', '999/s', '4000/s']) {
    const { send, wait } = setUp({ PARLEY_RATE_LIMIT: `${rate} burst 1` })
    let refused = 0
    for (let n = 0; n < 200; n++) {
      const waitMs = send('alice')?.retryAfterMs
      if (waitMs === undefined) continue
      wait(waitMs)
      if (send('alice') !== undefined) refused++
    }
    t.equal(refused, 0, rate)
  }
})

t.test('anonymous clients are counted by device, apart from users', async (t) => {
  const { send } = setUp({ PARLEY_RATE_LIMIT: '1/s burst 1' })
  t.equal(send('', 'alice'), undefined)
  t.equal(send('', 'alice')?.code, 'rate_limited')
  t.equal(send('', 'other'), undefined)
  t.equal(send('alice', 'alice'), undefined)
})

t.test('forgetting an idle bucket gives nobody more than the rate', async (t) => {
  const { send, wait } = setUp({ PARLEY_RATE_LIMIT: '1/s burst 100' })
  const passes = () => {
    let passed = 0
    while (send('alice') === undefined) passed++
    return passed
  }
  t.equal(passes(), 100)
  for (const seconds of [20, 60, 99, 150, 1]) {
    for (let second = 0; second < seconds; second++) {
      wait(1000)
      send(`other-${seconds}-${second}`)
    }
    t.equal(passes(), Math.min(100, seconds), `after ${seconds} s`)
  }
})

t.test('the number of buckets is bounded', async (t) => {
  const { send } = setUp({ PARLEY_RATE_LIMIT: '1/s burst 1' }, 10)
  t.equal(send('alice'), undefined)
  t.equal(send('alice')?.code, 'rate_limited')
  for (let n = 0; n < 25; n++) send(`user-${n}`)
  t.equal(send('alice'), undefined, 'the oldest were dropped')
})

t.test('a payload over the limit is refused with size and limit, also with no rate limit', async (t) => {
  const { send } = setUp({ PARLEY_RATE_LIMIT: 'off', PARLEY_PAYLOAD_BYTES_MAX: '10' })
  for (let n = 0; n < 5000; n++) if (send('alice', 'phone', 10) !== undefined) t.fail('refused')
  t.match(send('alice', 'phone', 11)?.body(), { code: 'too_large', message: 'the payload has 11 bytes, over the limit of 10' })
})

t.test('an application message may fill a packet', async (t) => {
  const plugin = createLimits(readConfig({ PARLEY_PAYLOAD_BYTES_MAX: '10' }), () => 0)
  t.equal(plugin.authorizePublish?.({ user: 'alice', device: 'phone' }, { ...publish(11), topic: 'iot/alice' }), undefined)
  t.equal(plugin.authorizePublish?.({ user: 'alice', device: 'phone' }, publish(11))?.code, 'too_large')
})

t.test('an oversized publish uses up the rate', async (t) => {
  const { send } = setUp({ PARLEY_RATE_LIMIT: '1/s burst 2', PARLEY_PAYLOAD_BYTES_MAX: '10' })
  t.equal(send('alice', 'phone', 11)?.code, 'too_large')
  t.equal(send('alice', 'phone', 11)?.code, 'too_large')
  t.equal(send('alice', 'phone', 11)?.code, 'rate_limited')
})

t.test('calls by HTTP and publishes use up the same rate', async (t) => {
  const plugin = createLimits(readConfig({ PARLEY_RATE_LIMIT: '1/s burst 2' }), () => 0)
  const alice = { user: 'alice', device: '' }
  t.equal(plugin.authorizeCall?.(alice), undefined)
  t.equal(plugin.authorizePublish?.({ user: 'alice', device: 'phone' }, publish()), undefined)
  t.match(plugin.authorizeCall?.(alice)?.body(), { code: 'rate_limited', retry_after_ms: 1000 })
})

t.test('the plugin runs on the real clock', async (t) => {
  const plugin = limits({ config: readConfig({ PARLEY_RATE_LIMIT: '0.01/s burst 1' }) })
  t.equal(plugin.authorizePublish?.({ user: 'a', device: 'd' }, publish()), undefined)
  const waitMs = plugin.authorizePublish?.({ user: 'a', device: 'd' }, publish())?.retryAfterMs ?? 0
  t.ok(waitMs > 0 && waitMs <= 100_000)
})
