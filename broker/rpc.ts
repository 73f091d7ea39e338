/**
 * Calls of methods over MQTT: `rpc/{method}` with `{"id","params"}`, answered on `u/{me}/rpc` to the session that asked. The
 * PUBLISH is acknowledged when the call is accepted; the reply comes when it is done. HTTP calls the same methods.
 * A node of several that stood still reads calls which their device may have made again elsewhere, and undone since: they are not done.
 */
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Refusal, refuse } from './errors.js'
import type { Metrics } from './metrics.js'
import type { Plugin, RoutedPublish } from './plugin.js'
import { describeFault, type PluginHost } from './plugin-host.js'
import { StallWatch } from './stall-watch.js'
import { type Store, StoreUnavailable } from './store/store.js'
import { rpcReplyTopic } from './topics.js'

const callIdSchema = Type.Union([Type.String({ maxLength: 128 }), Type.Number()])
const requestSchema = Type.Object(
  { id: Type.Optional(callIdSchema), params: Type.Optional(Type.Object({})) },
  { additionalProperties: false },
)
const callId = Compile(callIdSchema)
const request = Compile(requestSchema)

/** Calls that one session may have under way. */
const pendingMax = 64

interface Request {
  id?: string | number
  params?: object
  /** What is wrong with it; `id` is there if it could be read, so that the caller finds his call again. */
  fault?: Refusal
}

function parseRequest(payload: Buffer): Request {
  if (payload.length === 0) return {}
  let parsed: unknown
  try {
    parsed = JSON.parse(payload.toString())
  } catch {
    return { fault: refuse('invalid', 'the payload of a call is a JSON object {"id","params"}') }
  }
  if (request.Check(parsed)) return parsed as Request
  const fault = refuse('invalid', describeFault(request, parsed))
  const id = (parsed as { id?: unknown } | null)?.id
  return callId.Check(id) ? { id: id as string | number, fault } : { fault }
}

/** Of a call, as far as it can be read. */
export const callIdOf = (payload: Buffer): string | number | undefined => parseRequest(payload).id

interface RpcWorld {
  plugins: PluginHost
  metrics: Metrics
  store: Store
}

export function createRpc({ plugins, metrics, store }: RpcWorld): Plugin {
  const pending = new Map<string, number>()
  const stalls = store.isShared ? new StallWatch() : undefined
  /** Why it is too late for this call; undefined when it is not. */
  const outdated = async ({ caller: { user, device }, epoch }: RoutedPublish): Promise<Refusal | undefined> => {
    try {
      if ((await store.sessions.lastEpoch(user, device)) <= epoch) return undefined
      return refuse('unavailable', 'the device has connected elsewhere since this was sent')
    } catch (error) {
      if (error instanceof StoreUnavailable) return refuse('unavailable', 'the store cannot be reached')
      throw error
    }
  }
  const call = async (publish: RoutedPublish, params: object | undefined): Promise<object | Refusal> => {
    const refusal = stalls?.hasStood ? await outdated(publish) : undefined
    return refusal ?? plugins.call(publish.id, publish.caller, params)
  }
  const answer = (publish: RoutedPublish, id: string | number | undefined, result: object | Refusal): void => {
    const isRefused = result instanceof Refusal
    metrics.rpcCalls.inc({ result: isRefused ? result.code : 'ok' })
    const reply = isRefused ? { id, error: result.body() } : { id, result }
    publish.reply(rpcReplyTopic(publish.caller.user), JSON.stringify(reply))
  }
  const route = (publish: RoutedPublish): void => {
    const { caller, payload } = publish
    const parsed = parseRequest(payload)
    publish.done({ kind: 'done' })
    if (parsed.fault !== undefined) return answer(publish, parsed.id, parsed.fault)
    const key = `${caller.user}/${caller.device}`
    const underWay = pending.get(key) ?? 0
    if (underWay >= pendingMax) return answer(publish, parsed.id, refuse('busy', `${pendingMax} calls of this session are under way`))
    pending.set(key, underWay + 1)
    void call(publish, parsed.params).then((result) => {
      const left = (pending.get(key) ?? 1) - 1
      if (left === 0) pending.delete(key)
      else pending.set(key, left)
      answer(publish, parsed.id, result)
    })
  }
  return { name: 'rpc', routes: { 'rpc/{method}': route }, close: async () => stalls?.stop() }
}
