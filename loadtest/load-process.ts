/** A load process as the tool sees it: gives orders over IPC and waits for the answers. */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Answer, OrderName, Orders } from './orders.js'
import { endProcess } from './peers/broker.js'

export class LoadProcess {
  readonly #child: ChildProcess

  constructor(nodeArgs: string[]) {
    this.#child = fork(fileURLToPath(new URL('./load-worker.js', import.meta.url)), [], { execArgv: nodeArgs })
  }

  order<Name extends OrderName>(order: Name, give: Orders[Name]['give']): Promise<Orders[Name]['get']> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null): void => reject(new Error(`a load process ended with code ${code}`))
      this.#child.once('exit', onExit)
      this.#child.once('message', (answer: Answer) => {
        this.#child.off('exit', onExit)
        if (answer.ok) resolve(answer.get as Orders[Name]['get'])
        else reject(new Error(answer.error))
      })
      this.#child.send({ order, give })
    })
  }

  /** Lets the process exit by itself, so that a profiler in it can write its file. */
  async end(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect()
    await endProcess(this.#child, 'exits-by-itself')
  }
}
