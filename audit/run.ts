/**
 * One audit from the start of the servers to the history on disk: brings everybody online, lets them talk while the schedule
 * of faults is done, heals, waits until everything has settled, and reads it all back. Judging is the checker's part. Throws only
 * when the audit itself cannot go on; whatever the servers do ends in the history.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { groupConversation } from '../broker/topics.js'
import { Api } from './api.js'
import { type Cast, createCast, fuzzUsers } from './cast.js'
import { askForBlock } from './changes.js'
import { VirtualClient } from './client.js'
import type { Deployment, DeploymentEvents } from './deployment.js'
import { type FaultKind, isSteady, planFaults } from './faults.js'
import { type FuzzCounts, startFuzz } from './fuzz.js'
import { Inflictor } from './inflict.js'
import { descriptorsOf, isDown, type Leftovers, readLeftovers, sumOf } from './leftovers.js'
import type { Live } from './live.js'
import { createProxy, type FaultyProxy } from './proxy.js'
import { createRandom, type Random } from './random.js'
import { readBack } from './read-back.js'
import { Recorder } from './recorder.js'
import { startTraffic } from './traffic.js'

export interface RunOptions {
  seed: number
  minutes: number
  users: number
  /** Messages a second. */
  rate: number
  faults: readonly FaultKind[]
  /** Mean time between two faults of the server; what is usual when it is left out. */
  serverEveryMs?: number
  /** How long everything may take to settle after healing. */
  healMsMax?: number
}

export interface RunWorld {
  /** Where the history is written. */
  file: string
  deploy(events: DeploymentEvents): Deployment
  live: Live
}

const tokenSeconds = 6 * 3_600
const shortTokenSecondsMax = 8
/** As a share of the run, so that some expire in a short one too. */
const shortTokenShare = 0.15
const shortTokenEvery = 15
const startMsMax = 60_000
/** The bound of I2. */
const healMsMaxUsual = 30_000
const lineCharsMax = 1_000
const quietMs = 1_200
/** A little more than the checker lets pass. */
const presenceMsMax = 24_000
const drainMsMax = 10_000
const sampleMs = 1_000
const startSlice = 50
const untold: Leftovers = { gauge: null, descriptors: null, lagMs: null }

interface Stage {
  options: RunOptions
  recorder: Recorder
  deployment: Deployment
  proxy: FaultyProxy
  api: Api
  cast: Cast
  clients: VirtualClient[]
  random: Random
  live: Live
  /** Of all servers before anybody has connected. */
  descriptorsAtStart: number
}

export async function runAudit(options: RunOptions, { file, deploy, live }: RunWorld): Promise<void> {
  const recorder = new Recorder(file)
  const random = createRandom(options.seed)
  const deployment = deploy({
    exited: (node, { isOrdered, why }) => recorder.write({ event: 'node', node: node.name, what: 'exit', ms: recorder.ms, isOrdered, why }),
    logged: (node, level, text) => recorder.write({ event: 'logged', node: node.name, level, text: shortened(text) }),
  })
  const api = new Api(deployment, random)
  const proxy = await createProxy(() => api.node())
  const clients: VirtualClient[] = []
  try {
    const cast = createCast(options.users)
    const stage: Stage = { options, recorder, deployment, proxy, api, cast, clients, random, live, descriptorsAtStart: 0 }
    writeRun(stage)
    live.phase('starting')
    for (const node of deployment.nodes) await node.start()
    stage.descriptorsAtStart = descriptorsOf(deployment)
    await createWorld(stage)
    const trouble = await talk(stage)
    if (trouble === '') await settleAndRead(stage)
    else recorder.write({ event: 'healed', ms: recorder.ms, sessions: 0, ...untold, waitedMs: 0, complaint: trouble, isRead: false })
  } finally {
    live.end()
    // However it ended: a client that goes on would keep the program alive.
    for (const client of clients) client.stop()
    await proxy.close()
    await deployment.close()
    recorder.close()
  }
}

/** What a line of a log is about stands at its beginning and at its end. */
const shortened = (text: string): string =>
  text.length <= lineCharsMax ? text : `${text.slice(0, lineCharsMax / 2)} … ${text.slice(-lineCharsMax / 2)}`

function writeRun({ options, recorder, deployment }: Stage): void {
  const { seed, minutes, rate, users, faults } = options
  const skipped = faults.flatMap((kind) => {
    const why = deployment.cannot(kind)
    return why === undefined ? [] : [{ kind, why }]
  })
  const startedAt = new Date().toISOString()
  recorder.write({
    event: 'run',
    version: 1,
    seed,
    startedAt,
    minutes,
    rate,
    users,
    nodes: deployment.nodes.length,
    faults: [...faults],
    skipped,
  })
}

async function createWorld(stage: Stage): Promise<void> {
  const { api, cast, recorder, clients, options, proxy, random, deployment } = stage
  await api.addUsers([...cast.users, ...cast.outsiders, ...fuzzUsers])
  for (const { group, owner, members } of cast.groups) {
    await api.rpc(owner, 'group.create', { group, members })
    recorder.write({ event: 'members', group, change: 'create', users: members, at: recorder.tick(), isDone: true })
  }
  for (const [user, peer] of cast.standingBlocks) await askForBlock({ api, recorder }, user, peer, true)
  const hasShortTokens = options.faults.includes('token')
  const shortTokenSeconds = Math.max(1, Math.min(shortTokenSecondsMax, Math.round(options.minutes * 60 * shortTokenShare)))
  const world = { recorder, random, ports: proxy, token: api.token, wasSilent: proxy.wasSilent }
  cast.devices.forEach((device, number) => {
    const isShort = hasShortTokens && number % shortTokenEvery === shortTokenEvery - 1
    const groups = cast.groups.filter(({ members }) => members.includes(device.user)).map(({ group }) => groupConversation(group))
    const filters = deployment.filtersOf({ user: device.user, groups, friends: cast.friendsOf(device.user) })
    clients.push(new VirtualClient({ ...device, tokenSeconds: isShort ? shortTokenSeconds : tokenSeconds, filters }, world))
  })
  for (let at = 0; at < clients.length; at += startSlice) {
    const slice = clients.slice(at, at + startSlice)
    for (const client of slice) client.start()
    await until(() => slice.every(({ isUp }) => isUp), startMsMax)
  }
}

/** True when it held in time. */
async function until(probe: () => boolean | Promise<boolean>, msMax: number): Promise<boolean> {
  for (const end = performance.now() + msMax; performance.now() < end; ) {
    if (await probe()) return true
    await delay(50)
  }
  return false
}

/** What a server could not do, or ''. */
async function talk(stage: Stage): Promise<string> {
  const { options, recorder, deployment, proxy, api, cast, clients, random, live } = stage
  const possible = options.faults.filter((kind) => deployment.cannot(kind) === undefined)
  const runMs = options.minutes * 60_000
  const plan = planFaults(
    options.seed,
    runMs,
    possible.filter((kind) => !isSteady(kind)),
    options.serverEveryMs,
  )
  const traffic = startTraffic({ cast, clients, random, perSecond: options.rate })
  const clientWorld = { recorder, random, ports: proxy, token: api.token, wasSilent: proxy.wasSilent }
  const inflictor = new Inflictor({ deployment, proxy, api, cast, clients, clientWorld, traffic, runMs })
  const fuzz = possible.includes('fuzz') ? startFuzz({ random: createRandom(options.seed + 1), ports: proxy, token: api.token }) : undefined
  const stopSampling = sample(stage)
  live.phase(`seed ${options.seed}`)
  const startedMs = performance.now()
  const passedMs = (): number => performance.now() - startedMs
  for (const fault of plan) {
    await delay(Math.max(0, fault.ms - passedMs()))
    inflictor.inflict(fault)
  }
  await delay(Math.max(0, runMs - passedMs()))
  // On a machine that is too slow for the schedule the run goes on until each kind has come once.
  await until(() => plan.every(({ kind }) => inflictor.done.has(kind)), runMs)
  live.phase('healing')
  traffic.stop()
  await fuzz?.stop()
  const trouble = await inflictor.heal()
  stopSampling()
  const steady = (kind: FaultKind, what: string): void => recorder.write({ event: 'fault', kind, ms: recorder.ms, what })
  if (fuzz !== undefined) steady('fuzz', wordsOf(fuzz.counts))
  if (possible.includes('token'))
    steady('token', `${clients.reduce((sum, { expiries }) => sum + expiries, 0)} connections ended with their token`)
  return trouble
}

const wordsOf = ({ tcp, ws, welcome, packets }: FuzzCounts): string =>
  `${tcp} connections over TCP and ${ws} over WebSocket, ${welcome} of them welcomed, ${packets} packets`

function sample({ recorder, clients, deployment, options, live }: Stage): () => void {
  const timer = setInterval(() => {
    const { ms, sent, acked, delivered } = recorder
    const up = clients.filter(({ isUp }) => isUp).length
    const rssMb = Math.round(deployment.nodes.reduce((sum, node) => sum + node.rssBytes(), 0) / 1_048_576)
    recorder.write({ event: 'sample', sample: { ms, acked, delivered, live: up, rssMb } })
    const seconds = Math.round(ms / 1_000)
    live.show(
      `${seconds} of ${Math.round(options.minutes * 60)} s  sent ${sent}  acked ${acked}  delivered ${delivered}  ` +
        `online ${up}/${clients.length}  server ${rssMb} MB`,
    )
  }, sampleMs)
  return () => clearInterval(timer)
}

/** What is wrong with the state after healing; '' when everybody has everything that can still come. */
async function settle({ clients, recorder, deployment, live, options: { healMsMax = healMsMaxUsual } }: Stage): Promise<string> {
  let [lastCount, lastChangeMs] = [-1, 0]
  const isSettled = async (): Promise<boolean> => {
    const waiting = clients.filter(({ isReady, unsettled }) => !isReady || unsettled > 0).length
    live.show(`${waiting} clients are not done`)
    if (waiting > 0) return false
    if (recorder.delivered !== lastCount) {
      lastCount = recorder.delivered
      lastChangeMs = performance.now()
    }
    if (performance.now() - lastChangeMs < quietMs) return false
    return ((await sumOf(deployment, 'parley_sessions_behind')) ?? 0) === 0
  }
  if (await until(isSettled, healMsMax)) return ''
  const late = clients.filter(({ isReady, unsettled }) => !isReady || unsettled > 0)
  const names = late.slice(0, 5).map(({ name, isUp, isReady, unsettled }) => `${name} up=${isUp} ready=${isReady} unsettled=${unsettled}`)
  return late.length > 0 ? `${late.length} clients are not done: ${names.join('; ')}` : 'sessions are still behind'
}

/** Waits while somebody who is connected is shown offline, so long that the checker sees it. */
async function presenceSettles({ recorder, cast }: Stage): Promise<void> {
  const restless = new Set([...cast.churners, ...cast.outsiders])
  const blocked = new Set(cast.standingBlocks.map(([by, user]) => `${user} ${by}`))
  const isExcused = (watcher: string, user: string): boolean =>
    restless.has(watcher) || restless.has(user) || blocked.has(`${watcher} ${user}`)
  await until(() => recorder.presence.wrong(isExcused) === 0, presenceMsMax)
}

async function settleAndRead(stage: Stage): Promise<void> {
  const { recorder, clients, deployment, live, options, descriptorsAtStart } = stage
  const healedMs = recorder.ms
  live.phase('settling')
  let complaint = await settle(stage)
  const waitedMs = recorder.ms - healedMs
  await presenceSettles(stage)
  const sessions = clients.filter(({ isUp }) => isUp).length
  let leftovers = untold
  await until(
    async () => {
      leftovers = await readLeftovers(deployment, descriptorsAtStart)
      return isDown(leftovers, sessions)
    },
    Math.min(drainMsMax, options.healMsMax ?? drainMsMax),
  )
  const endMs = recorder.ms
  for (const client of clients) client.writeDownOpen()
  for (const client of clients) client.stop()
  live.phase('reading back')
  let isRead = false
  try {
    // What was only in memory is gone then.
    if (options.faults.includes('kill')) {
      for (const node of deployment.nodes) {
        await node.kill()
        await node.start()
      }
    }
    const stuck = await readBack(stage, (share) => live.show(`${Math.round(share * 100)} %`))
    complaint ||= stuck
    isRead = true
    for (const node of deployment.nodes) {
      const { why } = await node.stop()
      if (why !== 'exit code 0') complaint ||= `${node.name} was told to stop and ended with ${why}`
    }
  } catch (error) {
    complaint ||= (error as Error).message
  }
  recorder.write({ event: 'healed', ms: healedMs, sessions, ...leftovers, waitedMs, endMs, complaint, isRead })
}
