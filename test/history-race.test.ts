/** A member who is removed while his page of history is read sees nothing of what follows. */
import t from 'tap'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import type { Store } from '../broker/store/store.js'
import { historyMethod } from '../plugins/conversations/history.js'
import { append } from './contract/entries.js'

const conv = 'g/team'

t.test('whenever he is removed', async (t) => {
  for (const when of ['head', 'conversation'] as const) {
    const real = await createLmdbStore({ dir: t.testdir(), logger: createLogger('silent') })
    const span = { from: 1 }
    const member = (to?: number) => ({
      kind: 'member' as const,
      group: 'team',
      record: { user: 'bob', role: to === undefined ? ('member' as const) : undefined, spans: [to === undefined ? span : { ...span, to }] },
    })
    const group = { kind: 'group' as const, record: { group: 'team', name: 'Team', createdTs: 1, membersMax: 5 } }
    await real.log.append([append(conv, 0, 2, { effects: [group, member()] })])
    let isRemoved = false
    const remove = async (): Promise<void> => {
      if (isRemoved) return
      isRemoved = true
      await real.log.append([append(conv, 2, 1, { effects: [member(3)] })])
      await real.log.append([append(conv, 3, 2)])
    }
    /** The removal, and what follows it, are stored right before this call is answered. */
    const during = <Part extends object>(part: Part): Part =>
      new Proxy(part, {
        get(target, name) {
          const found: unknown = Reflect.get(target, name, target)
          if (typeof found !== 'function') return found
          return async (...args: unknown[]) => {
            if (name === when) await remove()
            return (found as (...given: unknown[]) => Promise<unknown>).apply(target, args)
          }
        },
      })
    const store: Store = { ...real, log: during(real.log), directory: during(real.directory) }
    const { messages, head } = (await historyMethod(store).handle({ user: 'bob', device: '' }, { conv } as never)) as {
      messages: { seq: number }[]
      head: number
    }
    t.ok(isRemoved)
    t.ok(head <= 3 && messages.every(({ seq }) => seq <= 3), `removed at ${when}: ${messages.map(({ seq }) => seq)} up to ${head}`)
    await real.close()
  }
})
