/** What was waited for did not come in time. */
class LateError extends Error {
  override name = 'LateError'
}

/** Bounds a wait. What was waited for goes on, and nobody hears of it. */
export function within<Value>(ms: number, work: Promise<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new LateError(`no answer within ${ms} ms`)), ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
