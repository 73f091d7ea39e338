/** Objects as pictures of users and groups: own uploads only, so that nobody shows what was sent to him to everybody. */
import { type Refusal, refuse } from '../../broker/errors.js'
import { type Address, groupOf, isGroup } from '../../broker/topics.js'
import type { MediaObject } from './media-records.js'
import { isOfKind } from './media-types.js'
import { bytesMaxOf, idOfUrl, type MediaWorld, notThere } from './media-world.js'
import { unsettle } from './unsettle.js'

export async function prepareAvatar(world: MediaWorld, by: string, of: Address, url: string): Promise<Refusal | undefined> {
  const { config, records, now } = world
  const id = url === '' ? undefined : idOfUrl(config, url)
  if (id !== undefined) {
    const object = await records.object(id)
    if (object === undefined || object.doomedTs !== undefined) return notThere(id)
    if (object.user !== by) return refuse('forbidden', 'avatar_url: it names what somebody else has uploaded')
    if (!isOfKind(object.mime, 'image')) return refuse('invalid', `avatar_url: the object is ${object.mime}, which is no image`)
    if (object.size > bytesMaxOf(config, 'image')) return refuse('too_large', `an image has at most ${bytesMaxOf(config, 'image')} bytes`)
    await records.putAvatar(id, { of, ts: now() })
  }
  const before = await shownBy(world, of)
  if (before !== undefined && before !== id) await unsettle(world, [before])
  return undefined
}

/** The object that is the picture of this user or group now. */
async function shownBy({ config, avatars }: MediaWorld, of: Address): Promise<string | undefined> {
  return idOfUrl(config, (await avatars.of(of)) ?? '') || undefined
}

/** Whether it is somebody's picture. `open`: perhaps it is about to become one. */
export async function useAsAvatar(world: MediaWorld, object: MediaObject, nowTs: number): Promise<'shown' | 'open' | 'none'> {
  const { records, config } = world
  let use: 'open' | 'none' = 'none'
  for await (const avatar of records.avatars(object.id)) {
    if ((await shownBy(world, avatar.of)) === object.id) return 'shown'
    if (nowTs - avatar.ts < config.mediaUnsentMs) use = 'open'
    else await records.removeAvatar(object.id, avatar)
  }
  return use
}

/** That of a user is for everybody, like his profile; that of a group for its members. */
export async function maySeeAsAvatar(world: MediaWorld, user: string, object: MediaObject): Promise<boolean> {
  for await (const { of } of world.records.avatars(object.id)) {
    if ((await shownBy(world, of)) !== object.id) continue
    if (!isGroup(of) || (await world.store.directory.member(groupOf(of), user))?.role !== undefined) return true
  }
  return false
}
