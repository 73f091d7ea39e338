/**
 * Ends the process on SIGTERM and SIGINT: the first signal closes in good order and exits with 0, a second one exits
 * with 1 at once, and so does a close that takes too long. Called by `parley start`.
 */

/** The part of `process` that is used. */
export interface SignalledProcess {
  on(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown
  exit(code: number): unknown
}

/** Signals so close together are one. */
const sameSignalMs = 500

/** `close` is called once; what it throws goes to `fail`, which ends the process. */
export function stopOnSignal(
  target: SignalledProcess,
  close: () => Promise<void>,
  closeTimeoutMs: number,
  fail: (error: unknown) => void,
  nowMs: () => number = () => performance.now(),
): void {
  let stoppingSinceMs: number | undefined
  const stop = (): void => {
    if (stoppingSinceMs !== undefined) {
      // npm passes on what the whole process group has got already: that is the same signal, not a second one.
      if (nowMs() - stoppingSinceMs >= sameSignalMs) target.exit(1)
      return
    }
    stoppingSinceMs = nowMs()
    const timer = setTimeout(() => fail(new Error(`the server did not close within ${closeTimeoutMs} ms`)), closeTimeoutMs)
    close()
      .finally(() => clearTimeout(timer))
      .then(() => target.exit(0), fail)
  }
  target.on('SIGTERM', stop)
  target.on('SIGINT', stop)
}
