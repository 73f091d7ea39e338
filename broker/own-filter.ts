/** Which filters on chat topics a user may ask for. Asking is never needed: it is allowed so that stock clients need no exception. */
import { isId } from './topics.js'

/** `group`: own if the user is a member of it. */
export type Ownership = 'own' | 'foreign' | { group: string }

/** `u/{me}` and below, `g/+/…` and `g/#` are own; `u/+/…`, `u/#`, `rpc/…` and other users' topics are foreign. */
export function ownershipOf(filter: string, user: string): Ownership {
  if (user === '') return 'foreign'
  const [root, id] = filter.split('/', 2)
  if (root === 'u') return id === user ? 'own' : 'foreign'
  if (root !== 'g' || id === undefined) return 'foreign'
  if (id === '+' || id === '#') return 'own'
  return isId(id) ? { group: id } : 'foreign'
}
