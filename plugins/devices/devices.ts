/**
 * Devices: owns the methods devices.list and devices.remove. A user sees his own devices and ends the session of each, wherever it is. Knows
 * when each was seen, and has those forgotten that nobody comes back to.
 */
import { Type } from 'typebox'
import { method, type PluginFactory } from '../../broker/plugin.js'
import type { Session } from '../../broker/session.js'
import { startExpiry } from './expiry.js'
import { LastSeen } from './last-seen.js'

const dayMs = 86_400_000
const strict = { additionalProperties: false }
const removeSchema = Type.Object({ device: Type.String({ minLength: 1, maxLength: 64, pattern: '^[^/]+$' }) }, strict)

interface Device {
  device: string
  online: boolean
  /** Of a stored session. */
  created_ts?: number
  seen_ts?: number
}

const listSchema = Type.Object({
  devices: Type.Array(
    Type.Object({
      device: Type.String(),
      online: Type.Boolean(),
      created_ts: Type.Optional(Type.Integer()),
      seen_ts: Type.Optional(Type.Integer()),
    }),
  ),
})

export const createDevices: PluginFactory = ({ config, logger, store, hub, forget, devices }) => {
  const sessionOf = (user: string, device: string): Session | undefined => hub.sessionsOf(user).find((session) => session.device === device)
  const lastSeen = new LastSeen({ sessions: store.sessions, logger })
  let stopExpiry: (() => void) | undefined
  const list = async (user: string): Promise<Device[]> => {
    // While other nodes cannot be asked those of this one are shown.
    const [standing] = await devices.lookUp([user])
    const online = new Set([...hub.sessionsOf(user).map(({ device }) => device), ...(standing?.elsewhere ?? [])])
    const stored = (await store.sessions.list(user)).map(({ device, createdTs, seenTs }) => ({
      device,
      online: online.has(device),
      created_ts: createdTs,
      seen_ts: seenTs,
    }))
    for (const { device } of stored) online.delete(device)
    const others = [...online].map((device) => ({ device, online: true }))
    return [...stored, ...others].sort((a, b) => (a.device < b.device ? -1 : 1))
  }
  return {
    name: 'devices',
    async start() {
      lastSeen.start()
      const isOnline = (user: string, device: string): boolean => sessionOf(user, device) !== undefined
      if (config.sessionExpiryDays !== undefined)
        stopExpiry = startExpiry({ sessions: store.sessions, isOnline, forget }, config.sessionExpiryDays * dayMs, logger)
    },
    async close() {
      stopExpiry?.()
      await lastSeen.close()
    },
    onConnected(caller) {
      if (sessionOf(caller.user, caller.device)?.persistent) lastSeen.connected(caller)
    },
    onDisconnected: (caller) => lastSeen.disconnected(caller),
    methods: {
      'devices.list': method(Type.Object({}, strict), async ({ user }) => ({ devices: await list(user) }), listSchema),
      'devices.remove': method(
        removeSchema,
        async ({ user }, { device }) => {
          await forget(user, device)
          return {}
        },
        Type.Object({}),
      ),
    },
  }
}
