/**
 * Ends the process on SIGTERM and SIGINT: the first signal closes in good order and exits with 0, a second one exits
 * with 1 at once, and so does a close that takes too long. Called by `parley start`.
 */

/** The part of `process` that is used. */
export interface SignalledProcess {
  on(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown
  exit(code: number): unknown
}

/** `close` is called once; what it throws goes to `fail`, which ends the process. */
export function stopOnSignal(
  target: SignalledProcess,
  close: () => Promise<void>,
  closeTimeoutMs: number,
  fail: (error: unknown) => void,
): void {
  let stopping = false
  const stop = (): void => {
    if (stopping) {
      target.exit(1)
      return
    }
    stopping = true
    const timer = setTimeout(() => fail(new Error(`the server did not close within ${closeTimeoutMs} ms`)), closeTimeoutMs)
    close()
      .finally(() => clearTimeout(timer))
      .then(() => target.exit(0), fail)
  }
  target.on('SIGTERM', stop)
  target.on('SIGINT', stop)
}
