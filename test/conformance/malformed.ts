/**
 * Malformed, illegal and unusual byte sequences against a broker on a port. Each has to be judged as MQTT 3.1.1 says,
 * and a bystander on the same broker must not notice any of it.
 */
import type { Test } from 'tap'
import { connectRaw, type LinkOptions, type RawClient } from '../helper/raw-client.js'
import type { BrokerUnderTest } from './kit.js'
import { connectRows } from './malformed-connect.js'
import { frameCases } from './malformed-frames.js'
import { fuzz, randomSeed } from './malformed-fuzz.js'
import { type LimitCase, limitCases } from './malformed-limits.js'
import { packetRows } from './malformed-packets.js'
import { isMet, outcomeOf, type Row } from './malformed-row.js'
import { legalTextRows, textRows } from './malformed-text.js'

const rows: Row[] = [...textRows, ...legalTextRows, ...connectRows, ...packetRows]

export interface MalformedTest extends BrokerUnderTest {
  /** By when the broker closes a connection that has not sent a whole CONNECT. */
  connectDeadlineMs?: number
}

/** Rows in flight at the same time, and rows between two looks at the bystander. */
const batchSize = 16

/** A message to itself: the broker is alive and routes. */
async function checkBystander(bystander: RawClient, topic: string, word: string): Promise<void> {
  await bystander.publish(topic, word, { qos: 1 })
  const { payload } = await bystander.message(topic)
  if (payload.toString() !== word) throw new Error(`the bystander got ${payload} in place of ${word}`)
}

async function runRows(t: Test, link: LinkOptions, chosen: Row[]): Promise<void> {
  const topic = `bystander/${link.transport ?? 'tcp'}`
  const bystander = await connectRaw({ ...link, clientId: `bystander${link.transport ?? 'tcp'}` })
  t.teardown(() => bystander.reset())
  await bystander.subscribe([topic, 1])
  for (let at = 0; at < chosen.length; at += batchSize) {
    const batch = chosen.slice(at, at + batchSize)
    const outcomes = await Promise.all(batch.map((row) => outcomeOf(link, row)))
    for (const [index, { name, spec, expect }] of batch.entries()) {
      const outcome = outcomes[index] ?? 'nothing'
      t.ok(isMet(expect, outcome), `${name}: ${expect} [${spec}]`, { got: outcome })
    }
    await checkBystander(bystander, topic, `after ${at + batch.length}`)
  }
  t.pass('the bystander got its messages all along')
}

async function runFuzz(t: Test, link: LinkOptions, connections: number): Promise<void> {
  const topic = `bystander/fuzz/${link.transport ?? 'tcp'}`
  const bystander = await connectRaw({ ...link, clientId: `bystanderfuzz${link.transport ?? 'tcp'}` })
  t.teardown(() => bystander.reset())
  await bystander.subscribe([topic, 1])
  const seed = randomSeed()
  t.comment(`seed ${seed}`)
  await fuzz(link, seed, connections)
  await checkBystander(bystander, topic, 'after all')
  t.pass(`the bystander lives after seed ${seed}`)
}

async function runLimits(t: Test, link: LinkOptions, connectDeadlineMs: number): Promise<void> {
  const outcomes = await Promise.allSettled(limitCases.map((each: LimitCase) => each.run(link, connectDeadlineMs)))
  for (const [index, { name }] of limitCases.entries()) {
    const outcome = outcomes[index]
    t.ok(outcome?.status === 'fulfilled', `${name}: close`, { got: outcome?.status === 'rejected' ? String(outcome.reason) : '' })
  }
  const bystander = await connectRaw({ ...link, clientId: 'bystanderlimits' })
  await bystander.ping()
  await bystander.disconnect()
}

export async function testMalformed(t: Test, { label, port, wsPort, connectDeadlineMs = 15_000 }: MalformedTest): Promise<void> {
  const tcp: LinkOptions = { port }
  await t.test(`${label}: ${rows.length} sequences over TCP`, (child) => runRows(child, tcp, rows))
  await t.test(`${label}: limits over TCP`, (child) => runLimits(child, tcp, connectDeadlineMs))
  await t.test(`${label}: mutated packets over TCP`, (child) => runFuzz(child, tcp, 300))
  if (wsPort === undefined) return
  const ws: LinkOptions = { port: wsPort, transport: 'ws' }
  const chosen = rows.filter((row) => row.ws)
  await t.test(`${label}: ${chosen.length} sequences over WebSocket`, (child) => runRows(child, ws, chosen))
  await t.test(`${label}: limits over WebSocket`, (child) => runLimits(child, ws, connectDeadlineMs))
  await t.test(`${label}: mutated packets over WebSocket`, (child) => runFuzz(child, ws, 50))
  for (const { name, spec, run } of frameCases) await t.test(`${label}: ${name} [${spec}]`, (child) => run(child, ws))
}
