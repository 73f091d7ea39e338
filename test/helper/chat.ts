/**
 * People who write to each other without a pause, on devices that a stock client keeps connected through the front of a cluster, while a
 * test does harm to the cluster. In the end everything that they were told is held against the log. An outsider tries to write to them, too.
 */
import type { Test } from 'tap'
import { type Address, conversationOf, groupConversation } from '../../broker/topics.js'
import { createRandom, newSeed } from '../contract/entries.js'
import { check, type History } from './checker.js'
import { eventually } from './eventually.js'
import { logOf, readAll } from './final-log.js'
import type { RealNodes } from './real-cluster.js'
import { newRunName } from './recording-client.js'
import { StockDevice } from './stock-device.js'

const names = ['ann', 'ben', 'cat'] as const
/** Of each device: what it has sent and was not acknowledged. */
const underWay = 2
const everyMs = 200
const waitMs = 60_000

export class Chat {
  readonly devices: StockDevice[]
  readonly #users: string[]
  readonly #outsider: StockDevice
  readonly #group: string
  readonly #run: string
  readonly #random: (below: number) => number
  #timer: NodeJS.Timeout | undefined
  #said = 0

  private constructor(
    readonly t: Test,
    readonly cluster: RealNodes,
    keepaliveS: number | undefined,
  ) {
    const seed = newSeed()
    t.comment(`PARLEY_TEST_SEED=${seed}`)
    this.#random = createRandom(seed)
    this.#run = newRunName()
    this.#users = names.map((name) => `${name}-${this.#run}`)
    this.#group = `all-${this.#run}`
    const device = (user: string, name: string): StockDevice => new StockDevice(user, name, cluster.front, keepaliveS)
    this.devices = this.#users.flatMap((user) => [device(user, 'phone'), device(user, 'tablet')])
    this.#outsider = device(`mallory-${this.#run}`, 'phone')
  }

  /** Everybody is connected, and a first message of everybody has been acknowledged. Others than in any other chat. */
  static async begins(t: Test, cluster: RealNodes, { keepaliveS }: { keepaliveS?: number } = {}): Promise<Chat> {
    const chat = new Chat(t, cluster, keepaliveS)
    const everybody = [...chat.devices, chat.#outsider]
    t.teardown(async () => {
      clearInterval(chat.#timer)
      await Promise.all(everybody.map((device) => device.stops()))
    })
    for (const device of everybody) await device.starts()
    await chat.#until('everybody is connected', () => everybody.every(({ isReady }) => isReady))
    const [first, ...others] = chat.#users as [string, ...string[]]
    await cluster.nodes[0].rpc(first, 'group.create', { group: chat.#group, members: others })
    chat.#outsider.says(`g/${chat.#group}`, `${chat.#run}-outside`)
    chat.#timer = setInterval(() => chat.#talk(), everyMs)
    await chat.goesOn()
    return chat
  }

  #talk(): void {
    for (const device of this.devices) {
      if (device.unsettled >= underWay) continue
      const others = this.#users.filter((user) => user !== device.user)
      const to: Address = this.#random(2) === 0 ? `g/${this.#group}` : `u/${others[this.#random(others.length)]}`
      device.says(to, `${this.#run}-${++this.#said}`)
    }
  }

  /** So many messages have been acknowledged. */
  get acked(): number {
    return this.devices.reduce((sum, { sends }) => sum + sends.filter(({ isPubacked }) => isPubacked).length, 0)
  }

  /** How often a device lost its connection. */
  get cuts(): number {
    return this.devices.reduce((sum, { connections }) => sum + connections.filter(({ closedAt }) => closedAt !== undefined).length, 0)
  }

  /** Every device has had another message acknowledged since. */
  async goesOn(): Promise<void> {
    const before = this.devices.map((device) => ackedOf(device))
    await this.#until('everybody can write', () => this.devices.every((device, index) => ackedOf(device) > (before[index] as number)))
  }

  /** So many further messages have been acknowledged, whoever sent them. */
  async storesMore(messages: number): Promise<void> {
    const target = this.acked + messages
    await this.#until(`${messages} more are acknowledged`, () => this.acked >= target)
  }

  /** What was acknowledged by now has reached the devices of everybody, though they all go on. */
  async isHeardEverywhere(): Promise<void> {
    const acked = this.devices.flatMap(({ sends }) => sends.filter(({ acks }) => acks.length > 0))
    const unheard = (): string | undefined => {
      for (const device of this.devices) {
        const got = new Set(device.connections.flatMap(({ received }) => received.map(({ conv, seq }) => `${conv} ${seq}`)))
        for (const { conv, acks, ...from } of acked) {
          const isOwed = conv.startsWith('g/') || conv.split('/').includes(device.user)
          if (isOwed && `${from.user}/${from.device}` !== device.name && !got.has(`${conv} ${acks[0]?.seq}`))
            return `${device.name} lacks ${conv} ${acks[0]?.seq}`
        }
      }
      return undefined
    }
    await this.#until('all is heard', () => unheard() === undefined || Promise.reject(new Error(unheard())))
  }

  /**
   * They stop. Then all that was sent is stored once, the log of each conversation has no gap, and everybody's devices got all of it in order,
   * and nobody else's; every node shows the same.
   */
  async ends(): Promise<void> {
    const { t, cluster } = this
    clearInterval(this.#timer)
    await this.#until('everything is acknowledged', () => this.devices.every(({ isReady, unsettled }) => isReady && unsettled === 0))
    const all = [...this.devices, this.#outsider]
    const sends = all.flatMap((device) => device.sends)
    const log = await logOf(cluster.store, this.#conversations())
    const judge = (reads: History['reads']): string[] =>
      check({ sends, connections: all.flatMap(({ connections }) => connections), reads, log })
    await this.#until('everything is delivered', () => {
      const late = judge([]).filter((fault) => fault.startsWith('not delivered'))
      return late.length === 0 || Promise.reject(new Error(late.slice(0, 3).join('; ')))
    })
    const reads: History['reads'] = []
    for (const [index, user] of this.#users.entries()) {
      const node = cluster.nodes[index % cluster.nodes.length]
      if (node !== undefined) reads.push(...(await readAll(node, user, this.#conversations(user))))
    }
    t.same(judge(reads), [], 'every promise is kept')
    const total = [...log.values()].flat().length
    t.equal(total, this.#said + 1, `${total} messages, and ${this.cuts} connections were lost`)
    t.same(this.#outsider.sends[0]?.refusals, ['forbidden'], 'the outsider is refused')
  }

  #conversations(of?: string): string[] {
    const pairs = this.#users.flatMap((a) => this.#users.filter((b) => a < b).map((b) => [a, b] as const))
    const own = pairs.filter((pair) => of === undefined || pair.includes(of))
    return [groupConversation(this.#group), ...own.map(([a, b]) => conversationOf(`u/${b}`, a) ?? '')]
  }

  async #until(what: string, holds: () => boolean | Promise<never>): Promise<void> {
    const state = (): string => [...this.devices, this.#outsider].map(stateOf).join(', ')
    try {
      await eventually(holds, { timeoutMs: waitMs, everyMs: 25, what })
    } catch (error) {
      throw new Error(`${(error as Error).message}; ${state()}`, { cause: error })
    }
  }
}

const ackedOf = ({ sends }: StockDevice): number => sends.filter(({ isPubacked }) => isPubacked).length
const stateOf = ({ name, isReady, unsettled }: StockDevice): string => `${name} ready=${isReady} unsettled=${unsettled}`
