/**
 * Lets work on the same key run in the order in which it was asked for, and work on different keys at the same time. Holds what is under
 * way, nothing else. Of one node: others may run between.
 */
export class InTurn {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Rejects as `work` does, which hinders nobody behind it. */
  run<Result>(keys: Iterable<string>, work: () => Promise<Result>): Promise<Result> {
    const names = [...new Set(keys)]
    const before = names.map((name) => this.#last.get(name)).filter((one) => one !== undefined)
    const done = before.length === 0 ? work() : Promise.all(before).then(work)
    const settled = done.then(ignore, ignore).then(() => {
      for (const name of names) if (this.#last.get(name) === settled) this.#last.delete(name)
    })
    for (const name of names) this.#last.set(name, settled)
    return done
  }
}

const ignore = (): void => undefined
