/** Whether there is such a user: he was made known, and not erased since. */
import type { Directory } from './store/store.js'

export async function isKnown(directory: Directory, user: string): Promise<boolean> {
  const record = await directory.user(user)
  return record !== undefined && record.erasedTs === undefined
}

/** Who has a token may call by HTTP before anybody knows him; who was erased may do nothing any more. */
export async function isErased(directory: Directory, user: string): Promise<boolean> {
  return (await directory.user(user))?.erasedTs !== undefined
}
