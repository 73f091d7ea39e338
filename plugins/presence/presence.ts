/**
 * Presence: owns SUBSCRIBE to u/{user}/presence and the method presence. Who shares a conversation with a user and is not blocked by him sees
 * whether he is online, when he was last seen, and that he is busy; nothing is on the way of a message.
 */
import { Type } from 'typebox'
import { refuse } from '../../broker/errors.js'
import { isKnown } from '../../broker/known-user.js'
import { idSchema } from '../../broker/payloads.js'
import { method, type PluginFactory } from '../../broker/plugin.js'
import { Observers } from './observers.js'
import { createPresenceMetrics } from './presence-metrics.js'
import { Recent } from './recent.js'
import { createSharedRows } from './shared-rows.js'
import { Sightings } from './sightings.js'
import { hiddenValue, type PresenceWorld, presenceOf, visibilityOf } from './value.js'

/** Users whom one call may ask about. */
const usersMax = 200

const valueSchema = Type.Object({
  status: Type.Enum(['online', 'offline']),
  busy: Type.Optional(Type.Boolean()),
  last_seen: Type.Optional(Type.Integer({ minimum: 0 })),
})

/** Who may see whom, and who is busy, is read again after so long, should the word of a change be lost. */
const recentMs = 15_000
const recentMax = 20_000
/** For what is still to be written when the server ends. */
const closeMsMax = 5_000

/** What one node tells the others: users who are to be looked at, and for what. */
const busKind = 'presence'

type Told = { left: readonly string[] } | { busy: string }

export const createPresence: PluginFactory = ({ config, logger, store, log, hub, bus, devices, registry, isBusy }) => {
  const sightings = new Sightings({
    records: store.records,
    sessions: store.sessions,
    isWanted: async (user) => hub.sessionsOf(user).length === 0 && isKnown(store.directory, user),
    logger,
  })
  const rows = createSharedRows(store.directory)
  const busy = new Recent({ read: isBusy, keptMs: recentMs, keysMax: recentMax })
  const verdicts = new Recent({
    read: (pair) => log.conversations.judge(...(pair.split(' ') as [string, string])),
    keptMs: recentMs,
    keysMax: recentMax,
  })
  const world: PresenceWorld = {
    directory: store.directory,
    rows,
    sightings,
    isBusy: (user) => busy.of(user),
    judge: (watcher, user) => verdicts.of(`${watcher} ${user}`),
  }
  const metrics = createPresenceMetrics(registry, () => observers.watchCount)
  const observers: Observers = new Observers({
    world,
    logger,
    lookUp: (users) => devices.lookUp(users),
    watchesMax: config.subscriptionsMax,
    told: metrics.told,
  })

  const hear = (told: Told): void => {
    if ('busy' in told) {
      busy.forget(told.busy)
      observers.busyChanged(told.busy)
    } else
      for (const user of told.left) {
        rows.forget(user)
        observers.judgeAnew(user, hub.sessionsOf(user))
      }
  }
  const tell = (told: Told): void => {
    hear(told)
    bus.publish(busKind, Buffer.from(JSON.stringify(told)))
  }
  bus.on(busKind, (bytes) => hear(JSON.parse(bytes.toString()) as Told))
  bus.onMissed(() => {
    for (const recent of [rows, busy, verdicts]) recent.forgetAll()
    observers.missed()
  })

  const ask = async (watcher: string, users: readonly string[]): Promise<Record<string, object>> => {
    const seen = await Promise.all(users.map(async (user) => ({ user, visibility: await visibilityOf(world, watcher, user) })))
    const visible = seen.filter(({ visibility }) => visibility === 'visible').map(({ user }) => user)
    const standings = await devices.lookUp(visible)
    const values = await Promise.all(
      visible.map(async (user, at): Promise<[string, object]> => {
        const standing = standings[at]
        if (standing === undefined) throw refuse('unavailable', 'who is connected to other servers cannot be known now')
        return [user, await presenceOf(world, user, standing)]
      }),
    )
    const hidden = seen.filter(({ visibility }) => visibility === 'hidden').map(({ user }): [string, object] => [user, hiddenValue])
    return Object.fromEntries([...values, ...hidden])
  }

  return {
    name: 'presence',
    async start() {
      devices.watch((users) => observers.look(users))
      observers.start()
    },
    async close() {
      observers.close()
      await sightings.flush(closeMsMax)
    },
    subscriptions: { 'u/{user}/presence': observers },
    methods: {
      presence: method(
        Type.Object({ users: Type.Array(idSchema, { maxItems: usersMax }) }, { additionalProperties: false }),
        async ({ user }, { users }) => ({ presence: await ask(user, [...new Set(users)]) }),
        Type.Object({ presence: Type.Record(idSchema, valueSchema) }),
      ),
    },
    onMembersLeft: (_conv, users) => tell({ left: users }),
    onDirectChanged(user, peer) {
      verdicts.forget(`${user} ${peer}`)
      verdicts.forget(`${peer} ${user}`)
      observers.judgeAnew(user, hub.sessionsOf(user))
      observers.judgeAnew(peer, hub.sessionsOf(peer))
    },
    onBusyChanged: (user) => tell({ busy: user }),
    onDisconnected({ user }) {
      if (user !== '') sightings.saw(user, Date.now())
    },
    eraseUser: (user) => sightings.erase(user),
    async *exportUser(user) {
      const ts = await sightings.of(user)
      if (ts !== undefined) yield { kind: 'seen', ts }
    },
  }
}
