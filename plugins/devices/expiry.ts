/** Forgets stored sessions that nobody has come back to for a long time. Their messages stay in the log; goes over the sessions slowly. */
import type { Forget } from '../../broker/forget.js'
import type { Logger } from '../../broker/logger.js'
import type { SessionStore } from '../../broker/store/store.js'

const firstMs = 60_000
const everyMs = 3_600_000

export interface ExpiryWorld {
  sessions: Pick<SessionStore, 'all'>
  isOnline(user: string, device: string): boolean
  forget: Forget
}

/** How many were forgotten: those last seen before `beforeTs` that are not connected. */
export async function expireSessions({ sessions, isOnline, forget }: ExpiryWorld, beforeTs: number): Promise<number> {
  let forgotten = 0
  for await (const { user, device } of sessions.all(beforeTs)) {
    if (isOnline(user, device)) continue
    await forget(user, device)
    forgotten++
  }
  return forgotten
}

/** From now on, once an hour; returns what ends it. */
export function startExpiry(world: ExpiryWorld, expiryMs: number, logger: Logger): () => void {
  let timer: NodeJS.Timeout
  let isStopped = false
  const sweep = async (): Promise<void> => {
    try {
      const sessions = await expireSessions(world, Date.now() - expiryMs)
      if (sessions > 0) logger.info({ sessions }, 'sessions that were not seen for long were forgotten')
    } catch (error) {
      logger.warn({ err: error }, 'sessions could not be looked through; it is tried again')
    }
    if (!isStopped) timer = setTimeout(() => void sweep(), everyMs).unref()
  }
  timer = setTimeout(() => void sweep(), firstMs).unref()
  return () => {
    isStopped = true
    clearTimeout(timer)
  }
}
