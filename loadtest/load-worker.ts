/** Entry of a load process: carries out the orders that the load tool sends over IPC, one after the other. */
import { Crew } from './crew.js'
import type { Answer, LoadJob, Order, Orders } from './orders.js'

let crew: Crew | undefined

async function obey({ order, give }: Order): Promise<Orders[Order['order']]['get']> {
  if (order === 'connect') {
    crew = new Crew(give as LoadJob)
    await crew.connect()
    return null
  }
  if (crew === undefined) throw new Error(`order ${order} came before connect`)
  switch (order) {
    case 'prepare':
      await crew.prepare()
      return null
    case 'start':
      crew.start()
      return null
    case 'freeze':
      crew.freeze()
      return null
    case 'thaw':
      crew.thaw()
      return null
    case 'read':
      return crew.read()
    case 'stop':
      return crew.stop()
    case 'drain':
      return crew.drain(give)
  }
}

const answer = (message: Answer): void => {
  process.send?.(message)
}

process.on('message', (order: Order) => {
  obey(order).then(
    (get) => answer({ ok: true, get }),
    (error: unknown) => answer({ ok: false, error: error instanceof Error ? error.message : String(error) }),
  )
})
process.on('disconnect', () => process.exit())
