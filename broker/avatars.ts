/**
 * Pictures of users and groups: what may be one, and which is it now. Who keeps profiles, groups and media each knows a part of that; here they
 * ask each other.
 */
import { refuse } from './errors.js'
import type { PluginHost } from './plugin-host.js'
import type { Directory } from './store/store.js'
import { type Address, groupOf, idOfAddress, isGroup } from './topics.js'

export interface Avatars {
  /**
   * To be called before `by` sets the picture of `u/{user}` or `g/{group}`; '' takes it away. Throws a Refusal for what can be none. Whether it
   * was set after that is for `of` to say.
   */
  prepare(by: string, of: Address, url: string): Promise<void>
  /** As it is set now. */
  of(address: Address): Promise<string | undefined>
}

/** What an `<img>` may be given: of another server, or of this one. */
const pattern = /^(https?:\/\/[^\s]+|\/[^/\s][^\s]*)?$/

export function createAvatars(plugins: () => PluginHost, directory: Directory): Avatars {
  return {
    async prepare(by, of, url) {
      if (!pattern.test(url)) throw refuse('invalid', 'avatar_url: it is a URL of http or https')
      const refusal = await plugins().prepareAvatar(by, of, url)
      if (refusal !== undefined) throw refusal
    },
    async of(address) {
      if (isGroup(address)) return (await directory.group(groupOf(address)))?.avatar_url
      return plugins().avatarOf(idOfAddress(address))
    },
  }
}
