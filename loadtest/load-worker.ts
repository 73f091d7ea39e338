/** Entry of a load process: carries out the orders that the load tool sends over IPC. */
import { connectFirst } from './connect-first.js'
import { Crew } from './crew.js'
import type { Answer, Order, Orders } from './orders.js'

let crew: Crew | undefined

async function obey(given: Order): Promise<Orders[Order['order']]['get']> {
  if (given.order === 'connect-first') {
    await connectFirst(given.give.job, given.give.count)
    return null
  }
  if (given.order === 'connect') {
    crew = new Crew(given.give)
    return crew.connect()
  }
  if (crew === undefined) throw new Error(`order ${given.order} came before connect`)
  switch (given.order) {
    case 'prepare':
      await crew.prepare()
      return null
    case 'start':
      crew.start(given.give.quota)
      return null
    case 'mark':
      crew.mark()
      return null
    case 'freeze':
      crew.freeze()
      return null
    case 'thaw':
      crew.thaw()
      return null
    case 'cut':
      return crew.cut(given.give.node)
    case 'return':
      return crew.return(given.give)
    case 'read':
      return crew.read()
    case 'stop':
      return crew.stop()
    case 'drain':
      return crew.drain(given.give)
  }
}

const answer = (message: Answer): void => {
  process.send?.(message)
}

process.on('message', (order: Order) => {
  obey(order).then(
    (get) => answer({ id: order.id, ok: true, get }),
    (error: unknown) => answer({ id: order.id, ok: false, error: error instanceof Error ? error.message : String(error) }),
  )
})
process.on('disconnect', () => process.exit())
