/** Objects that may have lost the last message that refers to them: the sweep looks at them again. Durable when it resolves. */
import type { MediaWorld } from './media-world.js'

export async function unsettle({ records, now }: MediaWorld, ids: readonly string[]): Promise<void> {
  for (const id of new Set(ids)) {
    const object = await records.object(id)
    if (object !== undefined) await records.putUnsettled({ id, sha256: object.sha256, ts: now() })
  }
}
