/**
 * Does the faults of the schedule, and takes them back. Server faults wait for each other, and for people to be back; a client fault takes some
 * clients by chance and, where it lasts, gives them back after its time. `heal` ends whatever is still going on.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Api } from './api.js'
import type { Cast } from './cast.js'
import { Changes, type LastingChange } from './changes.js'
import type { ClientWorld, VirtualClient } from './client.js'
import { VirtualClient as Client } from './client.js'
import type { Deployment } from './deployment.js'
import type { FaultKind, PlannedFault } from './faults.js'
import { clusterActs } from './inflict-cluster.js'
import { Files } from './media.js'
import type { FaultyProxy } from './proxy.js'
import { createRandom, pick, type Random } from './random.js'
import type { Harm } from './tcp-link.js'
import type { Traffic } from './traffic.js'

export interface InflictWorld {
  deployment: Deployment
  proxy: FaultyProxy
  api: Api
  cast: Cast
  clients: readonly VirtualClient[]
  clientWorld: ClientWorld
  traffic: Traffic
  runMs: number
}

const hourMs = 3_600_000
const pauseMsMax = 30_000
const shareMax = 0.06
const longAwayMs = 20_000
const retryMs = 100
/** How long is waited for people to be back after a fault of a server. */
const backMsMax = 20_000

export class Inflictor {
  readonly done = new Map<FaultKind, number>()
  readonly #world: InflictWorld
  readonly #changes: Changes
  readonly #files: Files
  /** The last server fault: one after the other. */
  #servers: Promise<unknown> = Promise.resolve()
  #isServerInTrouble = false
  readonly #lasting = new Set<NodeJS.Timeout>()
  readonly #twins = new Set<VirtualClient>()
  #trouble = ''

  constructor(world: InflictWorld) {
    this.#world = world
    this.#files = new Files(world.api, world.cast, world.clients)
    this.#changes = new Changes({ api: world.api, cast: world.cast, recorder: world.clientWorld.recorder })
  }

  /** What meets nobody, since nobody is connected, is done a moment later. */
  inflict(fault: PlannedFault): void {
    const { kind, seed } = fault
    const act = this.#actions[kind] ?? this.#clusterAction(kind)
    if (act === undefined) return
    const what = act(createRandom(seed))
    if (what === undefined) return this.#later(retryMs, () => this.inflict(fault))
    this.done.set(kind, (this.done.get(kind) ?? 0) + 1)
    const { recorder } = this.#world.clientWorld
    recorder.write({ event: 'fault', kind, ms: recorder.ms, what })
  }

  /**
   * Everything is as it should be when it resolves with ''; clients are told to read, acknowledge and connect. Otherwise with
   * what a server could not do, be it only to come up again.
   */
  async heal(): Promise<string> {
    this.#isServerInTrouble = true
    for (const timer of this.#lasting) clearTimeout(timer)
    this.#lasting.clear()
    for (const twin of this.#twins) twin.stop()
    await this.#servers
    await this.#changes.heal()
    await this.#files.settled()
    const { proxy, clients, deployment } = this.#world
    // Whoever has ended by itself shall show what is left.
    for (const node of deployment.nodes) if (!node.isUp && this.#trouble === '') await node.start().catch(this.#note)
    proxy.healAll()
    for (const client of clients) {
      client.heal()
      client.start()
    }
    return this.#trouble
  }

  readonly #note = (error: unknown): void => {
    this.#trouble ||= (error as Error).message
  }

  readonly #actions: Partial<Record<FaultKind, (random: Random) => string | undefined>> = {
    kill: (random) =>
      this.#server(random, async (node) => {
        await node.kill()
        await delay(random(500))
        await node.start()
      }),
    restart: (random) =>
      this.#server(random, async (node) => {
        await node.stop()
        await node.start()
      }),
    stall: (random) =>
      this.#server(random, async (node) => {
        node.freeze()
        await delay(2_000 + random(4_000))
        node.thaw()
      }),
    disk: (random) =>
      this.#server(random, async (node) => {
        const isKilled = random(2) === 0
        this.#world.deployment.fillDisk()
        await delay(1_000 + random(3_000))
        // What was acknowledged and had no room is gone then.
        if (isKilled) await node.kill()
        this.#world.deployment.freeDisk()
        if (isKilled) await node.start()
      }),
    clock: (random) =>
      this.#server(random, async (node) => {
        node.setClock(random(2) === 0 ? hourMs : -hourMs)
        await delay(1_000 + random(2_000))
        node.setClock(0)
      }),
    cut: (random) => this.#harm(random, () => ({ kind: 'cut' }), 0),
    reset: (random) => this.#harm(random, () => ({ kind: 'reset' }), 0),
    delay: (random) => this.#harm(random, () => ({ kind: 'delay', ms: 50 + random(450) }), 2_000 + random(4_000)),
    trickle: (random) => this.#harm(random, () => ({ kind: 'trickle', bytesPerSecond: 1_000 + random(19_000) }), 2_000 + random(3_000)),
    'half-open': (random) => this.#harm(random, () => ({ kind: 'silence' }), 1_000 + random(6_000)),
    freeze: (random) =>
      this.#some(
        random,
        (client) => client.freeze(),
        500 + random(6_000),
        (client) => client.heal(),
      ),
    withhold: (random) => {
      const breaksOff = random(4) > 0
      const start = (client: VirtualClient): void => {
        client.isWithholding = true
      }
      return this.#some(random, start, 300 + random(2_500), (client) => {
        if (breaksOff) client.reset()
        client.heal()
      })
    },
    away: (random) =>
      this.#some(
        random,
        (client) => client.stop(),
        // Some for so long that others see it.
        random(5) === 0 ? longAwayMs + random(10_000) : 500 + random(8_000),
        (client) => client.start(),
      ),
    repeat: (random) => this.#some(random, (client) => client.repeat(1 + random(8)), 0),
    'same-id': () => this.#world.traffic.sendFromAllDevices(),
    'same-device': (random) => this.#sameDevice(random),
    members: (random) => this.#changes.members(random),
    mute: (random) => this.#lasts(this.#changes.mute(random), random),
    people: (random) => this.#lasts(this.#changes.people(random), random),
    media: (random) => this.#files.share(random),
  }

  #clusterAction(kind: FaultKind): ((random: Random) => string | undefined) | undefined {
    const act = clusterActs[kind]
    const { deployment, runMs } = this.#world
    const { backing, nodes } = deployment
    if (act === undefined || backing === undefined) return undefined
    const world = { ...backing, nodes, pauseMs: Math.min(pauseMsMax, runMs / 4) }
    return (random) => this.#server(random, (node) => act(world, node, random))
  }

  /** undefined while another one is not over: it is done when that is. */
  #server(random: Random, act: (node: Deployment['nodes'][number]) => Promise<unknown>): string | undefined {
    if (this.#isServerInTrouble) return undefined
    const { deployment, clientWorld } = this.#world
    const node = pick(random, deployment.nodes)
    const fromMs = clientWorld.recorder.ms
    this.#isServerInTrouble = true
    this.#servers = act(node)
      .catch(this.#note)
      .then(() => clientWorld.recorder.write({ event: 'outage', node: node.name, fromMs, toMs: clientWorld.recorder.ms }))
    void this.#servers.then(() => this.#whenInUse())
    return node.name
  }

  /** The next fault of a server waits until people are back, which takes its time on a busy machine. */
  async #whenInUse(): Promise<void> {
    const deadlineMs = performance.now() + backMsMax
    const isInUse = (): boolean => this.#world.clients.filter(({ isUp }) => isUp).length >= this.#world.clients.length / 2
    while (!isInUse() && performance.now() < deadlineMs) await delay(retryMs)
    this.#isServerInTrouble = this.#trouble !== ''
  }

  /** Of those who are connected: what is done to others is no fault. */
  #chosen(random: Random): VirtualClient[] {
    const up = this.#world.clients.filter(({ isUp }) => isUp)
    if (up.length === 0) return []
    const count = 1 + random(Math.max(1, Math.floor(this.#world.clients.length * shareMax)))
    return [...new Set(Array.from({ length: count }, () => pick(random, up)))]
  }

  #some(random: Random, act: (client: VirtualClient) => void, lastsMs: number, end?: (client: VirtualClient) => void): string | undefined {
    const chosen = this.#chosen(random)
    chosen.forEach(act)
    if (end !== undefined) this.#later(lastsMs, () => chosen.forEach(end))
    return named(chosen)
  }

  #harm(random: Random, harmFor: () => Harm, lastsMs: number): string | undefined {
    const { proxy } = this.#world
    const harmed = this.#chosen(random).filter(({ localPort }) => proxy.harm(localPort, harmFor()))
    const ports = harmed.map(({ localPort }) => localPort)
    if (lastsMs > 0) this.#later(lastsMs, () => ports.forEach((port) => proxy.heal(port)))
    return named(harmed)
  }

  /** A change that is taken back after a while. */
  #lasts({ what, takeBack }: LastingChange, random: Random): string {
    this.#later(1_000 + random(4_000), takeBack)
    return what
  }

  #later(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#lasting.delete(timer)
      act()
    }, ms)
    this.#lasting.add(timer)
  }

  /** A second connection of the same device takes over, and after a while the first one takes it back. */
  #sameDevice(random: Random): string | undefined {
    const up = this.#world.clients.filter(({ isUp }) => isUp)
    if (up.length === 0) return undefined
    const client = pick(random, up)
    const twin = new Client({ ...client.options, transport: random(2) === 0 ? 'ws' : 'tcp' }, this.#world.clientWorld)
    this.#twins.add(twin)
    twin.start()
    // On a busy machine it takes its time to connect, and there is no fault before.
    const end = (): void => {
      if (!twin.isUp) return this.#later(retryMs, end)
      twin.stop()
      this.#twins.delete(twin)
    }
    this.#later(200 + random(1_500), end)
    return client.name
  }
}

/** undefined: nobody, so there was no fault. */
function named(clients: readonly VirtualClient[]): string | undefined {
  if (clients.length === 0) return undefined
  return clients.length > 3 ? `${clients.length} clients` : clients.map(({ name }) => name).join(', ')
}
