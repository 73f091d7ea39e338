/** The contract of DeviceRegistry, on one node: who is online, from when, and for how long after he has gone. */
import type { Test } from 'tap'
import { type DeviceClaim, type DeviceRegistry, isOnline } from '../../broker/device-registry.js'
import { eventually } from '../helper/eventually.js'

/** With this grace; closed by the test that opened it. */
export type OpenRegistry = (t: Test, graceMs: number) => Promise<DeviceRegistry>

const graceMs = 100
const never = 3_600_000

export const claimOf = (user: string, device: string, epoch = 1): DeviceClaim => ({ user, device, epoch })

/** In order; undefined where it cannot be known. */
export async function devicesOf(registry: DeviceRegistry, user: string): Promise<string[] | undefined> {
  const [standing] = await registry.lookUp([user])
  return standing && [...standing.here, ...standing.elsewhere].sort()
}

export function testDeviceRegistry(t: Test, open: OpenRegistry): void {
  t.test('a claimed device is there at once, a released one for the grace', async (t) => {
    const registry = await open(t, graceMs)
    registry.claim(claimOf('alice', 'phone'))
    registry.claim(claimOf('alice', 'web'))
    t.same(await devicesOf(registry, 'alice'), ['phone', 'web'])
    t.same(
      (await registry.lookUp(['alice', 'alice'])).map((standing) => standing && isOnline(standing)),
      [true, true],
    )
    registry.release(claimOf('alice', 'phone'))
    t.same(await devicesOf(registry, 'alice'), ['phone', 'web'])
    await eventually(async () => (await devicesOf(registry, 'alice'))?.length === 1, { what: 'the grace is over' })
    t.same(await devicesOf(registry, 'alice'), ['web'])
    registry.release(claimOf('alice', 'web'))
    await eventually(async () => (await devicesOf(registry, 'alice'))?.length === 0, { timeoutMs: 15_000, what: 'alice is gone' })
  })

  t.test('who comes back within the grace was never away', async (t) => {
    const registry = await open(t, graceMs)
    registry.claim(claimOf('alice', 'phone', 1))
    registry.release(claimOf('alice', 'phone', 1))
    registry.claim(claimOf('alice', 'phone', 2))
    registry.claim(claimOf('bob', 'phone'))
    registry.release(claimOf('bob', 'phone'))
    await eventually(async () => (await devicesOf(registry, 'bob'))?.length === 0, { timeoutMs: 15_000, what: 'a later grace is over' })
    t.same(await devicesOf(registry, 'alice'), ['phone'])
  })

  t.test('a session that was overtaken releases nothing, and nobody releases twice', async (t) => {
    const registry = await open(t, graceMs)
    registry.claim(claimOf('alice', 'phone', 1))
    registry.claim(claimOf('alice', 'phone', 2))
    registry.release(claimOf('alice', 'phone', 1))
    registry.release(claimOf('nobody', 'phone', 1))
    registry.claim(claimOf('bob', 'phone'))
    registry.release(claimOf('bob', 'phone'))
    registry.release(claimOf('bob', 'phone'))
    await eventually(async () => (await devicesOf(registry, 'bob'))?.length === 0, { timeoutMs: 15_000, what: 'a later grace is over' })
    t.same(await devicesOf(registry, 'alice'), ['phone'])
  })

  t.test('the first and the last device of a user are told, others are not', async (t) => {
    const registry = await open(t, graceMs)
    const told: string[] = []
    registry.watch((users) => void (users === 'all' || told.push(...users)))
    registry.claim(claimOf('alice', 'phone'))
    registry.claim(claimOf('alice', 'web'))
    registry.claim(claimOf('alice', 'web', 2))
    t.same(told, ['alice'])
    registry.release(claimOf('alice', 'phone'))
    registry.claim(claimOf('bob', 'phone'))
    registry.release(claimOf('alice', 'web', 2))
    await eventually(() => told.length === 3, { what: 'the grace is over' })
    t.same(told, ['alice', 'bob', 'alice'])
  })

  t.test('of many devices each has its own grace', async (t) => {
    const registry = await open(t, never)
    const claims = Array.from({ length: 1_000 }, (_, i) => claimOf(`user-${i % 100}`, `device-${i}`))
    for (const claim of claims) registry.claim(claim)
    for (const claim of claims) registry.release(claim)
    for (const { user, device } of claims.filter((_, i) => i % 2 === 0)) registry.claim(claimOf(user, device, 2))
    t.equal((await devicesOf(registry, 'user-1'))?.length, 10)
    t.equal((await registry.lookUp(Array.from({ length: 100 }, (_, i) => `user-${i}`))).length, 100)
  })
}
