/**
 * What MQTT 3.1.1 asks of a broker, as a suite on a port: it covers what the interoperability tests of the Paho project
 * check, and more. It knows nothing of the broker but its address, so that any broker can be held against it.
 */
import type { Test } from 'tap'
import { type BrokerUnderTest, type Case, Kit, type KitOptions } from './kit.js'
import { publishingCases } from './publishing.js'
import { retainedCases } from './retained.js'
import { sessionCases } from './sessions.js'
import { subscriptionCases } from './subscriptions.js'
import { willCases } from './wills.js'

const cases: Case[] = [...publishingCases, ...retainedCases, ...sessionCases, ...subscriptionCases, ...willCases]

async function runCases(t: Test, link: KitOptions, chosen: Case[]): Promise<void> {
  for (const { name, spec, run } of chosen) {
    await t.test(`${name} [${spec}]`, (child) => run(child, new Kit(child, link)))
  }
}

export async function testConformance(t: Test, { label, port, wsPort, speaks31 }: BrokerUnderTest): Promise<void> {
  await t.test(`${label} over TCP`, (child) => runCases(child, { port }, cases))
  const commonCases = cases.filter((each) => each.ws)
  if (wsPort !== undefined)
    await t.test(`${label} over WebSocket`, (child) => runCases(child, { port: wsPort, transport: 'ws' }, commonCases))
  if (speaks31) await t.test(`${label} as MQTT 3.1`, (child) => runCases(child, { port, protocolName: 'MQIsdp', level: 3 }, commonCases))
}
