/** What becomes of a publish that was refused before its route was called: a call is answered as calls are, anything else by an ack. */
import type { Refusal } from './errors.js'
import { messageIdOf } from './payloads.js'
import type { RoutedPublish } from './plugin.js'
import { callIdOf } from './rpc.js'
import { rpcReplyTopic, type Target } from './topics.js'

export function refusePublish(publish: RoutedPublish, target: Target, error: Refusal): void {
  const { payload, caller } = publish
  if (target.kind === 'route' && target.pattern === 'rpc/{method}' && caller.user !== '') {
    publish.done({ kind: 'done' })
    return publish.reply(rpcReplyTopic(caller.user), JSON.stringify({ id: callIdOf(payload), error: error.body() }))
  }
  publish.done({ kind: 'refused', id: target.kind === 'route' ? messageIdOf(payload) : undefined, error })
}
