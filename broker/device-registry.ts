/**
 * Which devices are connected, on whatever node. Each node claims those of its own live sessions; whoever asks gets all. A device that has
 * gone counts as connected for a grace, so that a short break shows nowhere. It has two implementations: in process, and in Redis.
 */

/** A live session of a device: a later connect of it has a higher epoch. */
export interface DeviceClaim {
  readonly user: string
  readonly device: string
  readonly epoch: number
}

/** What is known of a user's devices: those that are connected, or have gone for less than the grace, each once and in no order. */
export interface Standing {
  /** On this node. */
  here: readonly string[]
  /** On other nodes, and not here. */
  elsewhere: readonly string[]
  /** When the last of those that are gone was connected, ms since 1970; undefined: not known here. */
  goneTs?: number
}

export const isOnline = ({ here, elsewhere }: Standing): boolean => here.length + elsewhere.length > 0

/** Of these users, or of anybody, something may have changed, on this node or another. */
export type DeviceWatcher = (users: readonly string[] | 'all') => void

/**
 * Guarantees: a device of this node is known here at once, and while it is claimed nobody hears that it is gone; on other nodes it is known
 * within a second while all can be reached. Of a node that died all devices are gone within 10 s. What cannot be known now is said to be
 * unknown, never gone.
 */
export interface DeviceRegistry {
  /** In place of an earlier claim of the device. Waits for nothing and does not throw. */
  claim(claim: DeviceClaim): void
  /** The session has ended: the device is gone after the grace, unless it is claimed again. One that was overtaken changes nothing. */
  release(claim: DeviceClaim): void
  /** In the order asked; undefined: cannot be known now. Does not reject. */
  lookUp(users: readonly string[]): Promise<(Standing | undefined)[]>
  /** Called from now on; a call may be missed where nodes cannot reach each other, and may come when nothing has changed. Must not throw. */
  watch(watcher: DeviceWatcher): void
  /** Nodes that live, this one included. */
  readonly nodes: number
  /** Own devices that other nodes may not know of yet. */
  readonly unwritten: number
  /** This node has gone: nothing is claimed or told any more. */
  close(): void
}
