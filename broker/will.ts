/**
 * A will on a chat topic is a message like any other, sent in its user's name when the connection is lost: it takes the same
 * route and the same checks, and there is nobody left to answer to.
 */
import type { Caller, RoutedPublish } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import { targetOf } from './topics.js'

export function createWillPublisher(plugins: PluginHost) {
  return (caller: Caller, topic: string, payload: Buffer, retain: boolean): void => {
    const target = targetOf(topic)
    if (target.kind !== 'route') return
    const publish: RoutedPublish = {
      topic,
      id: target.id,
      payload,
      caller,
      qos: 0,
      retain,
      dup: false,
      packetId: 0,
      epoch: 0,
      done: ignore,
      reply: ignore,
    }
    if (plugins.authorizePublish(caller, publish) === undefined) plugins.route(target.pattern, publish)
  }
}

/** Nobody waits for the outcome of a will. */
function ignore(): void {
  return undefined
}
