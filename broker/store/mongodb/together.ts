/**
 * What is asked of the store at the same moment is asked in one command: of a thousand connects at once each would have commands of its own
 * otherwise. What comes while as many commands as may be are under way waits for one of them, and shares the next.
 */
const underWayMax = 4
const keysMax = 500

interface Question<Key, Answer> {
  key: Key
  resolve(answer: Answer): void
  reject(error: unknown): void
}

export class Together<Key, Answer> {
  readonly #work: (keys: readonly Key[]) => Promise<readonly Answer[]>
  #waiting: Question<Key, Answer>[] = []
  #underWay = 0
  #isDue = false

  /** `work` answers in the order of the keys, of which one may be there twice. */
  constructor(work: (keys: readonly Key[]) => Promise<readonly Answer[]>) {
    this.#work = work
  }

  /** The answer is not older than the call. Rejects, with all that shared the command, as `work` does. */
  ask(key: Key): Promise<Answer> {
    const answered = new Promise<Answer>((resolve, reject) => this.#waiting.push({ key, resolve, reject }))
    this.#begin()
    return answered
  }

  #begin(): void {
    if (this.#isDue || this.#underWay >= underWayMax || this.#waiting.length === 0) return
    this.#isDue = true
    setImmediate(() => void this.#next())
  }

  async #next(): Promise<void> {
    this.#isDue = false
    const questions = this.#waiting.splice(0, keysMax)
    if (questions.length === 0) return
    this.#underWay++
    this.#begin()
    try {
      const answers = await this.#work(questions.map(({ key }) => key))
      for (const [index, { resolve }] of questions.entries()) resolve(answers[index] as Answer)
    } catch (error) {
      for (const { reject } of questions) reject(error)
    }
    this.#underWay--
    this.#begin()
  }
}
