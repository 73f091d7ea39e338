/** Tasks of one key run one after the other, those of different keys at once. Of one node: others may run between. */
export class InTurn {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Runs `task` when all earlier ones of the key have ended, however they did. */
  async run<Result>(key: string, task: () => Promise<Result>): Promise<Result> {
    const earlier = this.#last.get(key)
    const done = earlier === undefined ? task() : earlier.then(task, task)
    this.#last.set(key, done)
    try {
      return await done
    } finally {
      if (this.#last.get(key) === done) this.#last.delete(key)
    }
  }
}
