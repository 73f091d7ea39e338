/**
 * Waiting by polling, so that no test sleeps for a fixed time: `eventually` returns as soon as the probe holds and
 * fails, with the probe's own last complaint, when it has not held by the deadline.
 */
import { setTimeout as delay } from 'node:timers/promises'

export interface EventuallyOptions {
  timeoutMs?: number
  everyMs?: number
  /** What is waited for, for the message of the failure. */
  what?: string
}

/** Calls `probe` until it neither throws nor returns false, null or undefined; resolves with what it returned. */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  { timeoutMs = 5_000, everyMs = 10, what = 'the condition' }: EventuallyOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    let complaint: unknown
    try {
      const value = await probe()
      if (value !== false && value !== null && value !== undefined) return value as Exclude<T, false | null | undefined>
      complaint = `the probe returned ${String(value)}`
    } catch (error) {
      complaint = error
    }
    if (performance.now() >= deadline) throw new Error(`${what} did not hold within ${timeoutMs} ms: ${complaint}`, { cause: complaint })
    await delay(everyMs)
  }
}
