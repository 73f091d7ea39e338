/** Devices: owns the methods devices.list and devices.remove. A user sees his own devices and ends the session of each, wherever it is. */
import { Type } from 'typebox'
import { method, type PluginFactory } from '../broker/plugin.js'

const strict = { additionalProperties: false }
const removeSchema = Type.Object({ device: Type.String({ minLength: 1, maxLength: 64, pattern: '^[^/]+$' }) }, strict)

interface Device {
  device: string
  online: boolean
  /** Of a stored session. */
  created_ts?: number
  seen_ts?: number
}

export const createDevices: PluginFactory = ({ store, hub, forget }) => {
  const list = async (user: string): Promise<Device[]> => {
    const online = new Set(hub.sessionsOf(user).map(({ device }) => device))
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
    methods: {
      'devices.list': method(Type.Object({}, strict), async ({ user }) => ({ devices: await list(user) })),
      'devices.remove': method(removeSchema, async ({ user }, { device }) => {
        await forget(user, device)
        return {}
      }),
    },
  }
}
