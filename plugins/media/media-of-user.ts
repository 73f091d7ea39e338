/** What a user has uploaded: listed for him, and removed when he is erased, whoever refers to it. */
import type { MediaObject } from './media-records.js'
import type { MediaWorld } from './media-world.js'

async function* objectsOf({ records }: MediaWorld, user: string): AsyncGenerator<MediaObject> {
  for await (const object of records.objects()) if (object.user === user) yield object
}

export async function* uploadsOf(world: MediaWorld, user: string): AsyncGenerator<{ kind: string; [field: string]: unknown }> {
  for await (const { id, mime, size, name, ts } of objectsOf(world, user))
    yield { kind: 'media', id, mime, size, ...(name !== undefined && { name }), ts }
}

/** Bytes before records: what is cut off in between is found again. */
export async function eraseUploads(world: MediaWorld, user: string): Promise<void> {
  const { records, objects } = world
  for await (const object of objectsOf(world, user)) {
    await objects?.remove(object)
    for await (const ref of records.refs(object.id)) await records.removeRef(object.id, ref)
    for await (const avatar of records.avatars(object.id)) await records.removeAvatar(object.id, avatar)
    await records.removeObject(object.id)
  }
  await records.removeUsage(user)
}
