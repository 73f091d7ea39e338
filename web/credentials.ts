/**
 * Who this tab is. Kept in sessionStorage, so that two tabs can be two users and a reload stays signed in. A link with
 * `#user=alice&token=…` signs in; the token leaves the address bar at once and is never sent to the server in a URL.
 */
import { randomName } from './protocol.js'

export interface Credentials {
  user: string
  token: string
}

const credentialsKey = 'parley.credentials'
const deviceKey = 'parley.device'

export function loadCredentials(): Credentials | undefined {
  const kept = sessionStorage.getItem(credentialsKey)
  return kept === null ? undefined : (JSON.parse(kept) as Credentials)
}

export const keepCredentials = (credentials: Credentials): void => sessionStorage.setItem(credentialsKey, JSON.stringify(credentials))

export const forgetCredentials = (): void => sessionStorage.removeItem(credentialsKey)

/** Takes the credentials out of the fragment and the address bar; undefined when there are none. */
export function takeCredentialsFromAddress(): Credentials | undefined {
  const fragment = new URLSearchParams(location.hash.slice(1))
  const token = fragment.get('token')
  if (token === null) return undefined
  history.replaceState(null, '', location.pathname)
  return { user: fragment.get('user') ?? '', token }
}

/**
 * The name of this tab as a device. It is out of the storage while the page lives, so that a duplicated tab, which inherits a
 * copy of the storage, gets a name of its own instead of taking this session over.
 */
export function takeDeviceName(): string {
  const device = sessionStorage.getItem(deviceKey) ?? `web-${randomName(6)}`
  sessionStorage.removeItem(deviceKey)
  addEventListener('pagehide', () => sessionStorage.setItem(deviceKey, device))
  return device
}
