/** A load process as the tool sees it: gives orders over IPC and waits for the answers. */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Answer, OrderName, Orders } from './orders.js'
import { endProcess } from './peers/broker.js'

interface Waiter {
  resolve(get: Orders[OrderName]['get']): void
  reject(error: Error): void
}

export class LoadProcess {
  readonly #child: ChildProcess
  readonly #waiters = new Map<number, Waiter>()
  #nextId = 0
  #ended: Error | undefined

  constructor(nodeArgs: string[]) {
    this.#child = fork(fileURLToPath(new URL('./load-worker.js', import.meta.url)), [], { execArgv: nodeArgs })
    this.#child.on('message', (answer: Answer) => {
      const waiter = this.#waiters.get(answer.id)
      this.#waiters.delete(answer.id)
      if (answer.ok) waiter?.resolve(answer.get)
      else waiter?.reject(new Error(answer.error))
    })
    this.#child.once('exit', (code) => {
      this.#ended = new Error(`a load process ended with code ${code}`)
      for (const { reject } of this.#waiters.values()) reject(this.#ended)
      this.#waiters.clear()
    })
  }

  order<Name extends OrderName>(order: Name, give: Orders[Name]['give']): Promise<Orders[Name]['get']> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended)
        return
      }
      const id = this.#nextId++
      this.#waiters.set(id, { resolve: (get) => resolve(get as Orders[Name]['get']), reject })
      this.#child.send({ id, order, give })
    })
  }

  /** Lets the process exit by itself, so that a profiler in it can write its file. */
  async end(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect()
    await endProcess(this.#child, 'exits-by-itself')
  }
}
