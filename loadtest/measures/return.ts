/** Measures sessions that come back: all at once after a cut or a restart (`reconnect-storm`), or to what waited for them (`backlog`). */
import type { Figures } from '../figures.js'
import type { ReturnResult } from '../orders.js'
import { mergeHistograms, type Stage } from '../stage.js'
import { windowFigures } from './steady.js'

/** Until the broker has noticed that the connections are gone. */
const noticeSeconds = 0.5
/** What each client sends afterwards, to show that its session works. */
const proofMessages = 2

function returnFigures(results: readonly ReturnResult[]): Partial<Figures> & { tookSeconds: number } {
  const connack = mergeHistograms(results.map((result) => result.connack))
  const ready = mergeHistograms(results.map((result) => result.ready))
  const startedMs = Math.min(...results.map((result) => result.startedMs))
  const tookSeconds = (Math.max(...results.map((result) => result.endedMs)) - startedMs) / 1000
  const figures = {
    connackP50Ms: connack.quantile(0.5) / 1000,
    connackP99Ms: connack.quantile(0.99) / 1000,
    retries: results.reduce((sum, { retries }) => sum + retries, 0),
    tookSeconds,
  }
  if (ready.count === 0) return figures
  return { ...figures, readyP50Ms: ready.quantile(0.5) / 1000, readyP99Ms: ready.quantile(0.99) / 1000 }
}

export async function measureReconnectStorm(stage: Stage): Promise<Figures> {
  const { options, broker } = stage
  await stage.connect()
  await stage.pass('connected', options.warmupSeconds)
  const { killNode } = broker
  if (options.killNode && killNode === undefined) throw new Error('--kill-node needs --nodes 2 or more')
  // The sockets first: what the kernel does at a kill is no fault of the connection.
  await stage.all('cut', options.killNode ? { node: 0 } : {})
  if (options.killNode) await killNode?.(0)
  let restartSeconds: number | undefined
  if (options.restart) {
    if (broker.restart === undefined) throw new Error('--restart: only a broker that the tool has started can be started again')
    stage.phase('restarting the broker')
    const startedMs = performance.now()
    await broker.restart()
    restartSeconds = (performance.now() - startedMs) / 1000
  } else await stage.pass('cut', noticeSeconds)
  stage.phase('all come back')
  let results: ReturnResult[] = []
  const window = await stage.window(async () => {
    results = await stage.all('return', { withinMs: options.withinMs, messages: 0 })
  })
  const proved = (await stage.all('read', null)).reduce((sum, { confirmed }) => sum + confirmed, 0)
  await stage.all('start', { quota: proofMessages })
  const back = results.reduce((sum, { connected }) => sum + connected, 0)
  const connected = options.killNode ? options.clients : back
  await stage.until('sending to each other', proved + connected * proofMessages, ({ confirmed }) => confirmed)
  const { figures } = await stage.finish()
  const { tookSeconds, ...times } = returnFigures(results)
  Object.assign(figures, times, { allBackSeconds: tookSeconds, connectsPerSecond: back / tookSeconds, seconds: window.seconds })
  const { brokerCores, loadCores } = windowFigures(window)
  if (loadCores !== undefined) figures.loadCores = loadCores
  if (brokerCores !== undefined) figures.brokerCores = brokerCores
  if (window.brokerCpuSeconds !== undefined) figures.brokerCpuMicrosPerConnect = (window.brokerCpuSeconds * 1e6) / back
  if (restartSeconds !== undefined) figures.restartSeconds = restartSeconds
  return figures
}

export async function measureBacklog(stage: Stage): Promise<Figures> {
  const { options } = stage
  await stage.connect()
  const total = options.clients * options.messages
  const filling = await stage.window(async () => {
    await stage.all('start', { quota: options.messages })
    await stage.until('filling', total, ({ confirmed }) => confirmed)
  })
  stage.phase('all come back')
  let results: ReturnResult[] = []
  const window = await stage.window(async () => {
    const returning = stage.all('return', { withinMs: options.withinMs, messages: options.messages })
    await Promise.all([returning, stage.until('replaying', total, ({ delivered }) => delivered)])
    results = await returning
  })
  const { figures } = await stage.finish()
  const { tookSeconds, ...times } = returnFigures(results)
  Object.assign(figures, windowFigures(window), times, {
    backlogMessages: total,
    fillPerSecond: filling.confirmed / filling.seconds,
    replayPerSecond: total / tookSeconds,
    allBackSeconds: tookSeconds,
    seconds: window.seconds,
  })
  delete figures.messagesPerSecond
  delete figures.deliveriesPerSecond
  return figures
}
