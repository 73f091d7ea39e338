/** Starts the broker that a run is put on, with the settings that the scenario needs. */
import type { LoadOptions } from './options.js'
import type { Broker, PeerName } from './peers/broker.js'
import { startMosquitto } from './peers/mosquitto.js'
import { startNodePeer } from './peers/node-peer.js'
import { runningParley, startParley } from './peers/parley.js'

export type BrokerName = 'parley' | PeerName

const defaultGroupMembersMax = 500
const defaultSessionBacklogMax = 10_000
const defaultConversationBacklogMax = 1_000
/** More than a session of `mixed` can miss while it is away. */
const mixedBacklogMax = 1_000_000

/** Settings that let the groups and backlogs of this load exist, where they are larger than by default. */
function settingsFor({ members, offline, messages, mixed }: LoadOptions): Record<string, string> {
  const settings: Record<string, string> = {}
  const groupSize = Math.max(members + offline, mixed?.groupSize ?? 0)
  const backlog = mixed === undefined ? messages : mixedBacklogMax
  if (groupSize > defaultGroupMembersMax) settings.PARLEY_GROUP_MEMBERS_MAX = String(groupSize)
  if (backlog > defaultSessionBacklogMax) settings.PARLEY_SESSION_BACKLOG_MAX = String(backlog)
  if (backlog > defaultConversationBacklogMax) settings.PARLEY_CONVERSATION_BACKLOG_MAX = String(backlog)
  return settings
}

export function startBroker(name: BrokerName, options: LoadOptions): Promise<Broker> {
  const { transport, brokerNodeArgs: nodeArgs, running, nodes, storeDir } = options
  if (name === 'mosquitto') return startMosquitto(transport)
  if (name !== 'parley') return startNodePeer(name, nodeArgs, transport, nodes ?? 1)
  if (running.length > 0) return Promise.resolve(runningParley(running, options.secret, options.brokerPids))
  const settings = { ...settingsFor(options), ...options.brokerSettings }
  return startParley({
    ...{ nodeArgs, settings, transport },
    ...(nodes === undefined ? {} : { nodes }),
    ...(storeDir === undefined ? {} : { storeDir }),
  })
}
