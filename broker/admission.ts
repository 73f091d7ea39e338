/**
 * Who may connect: verifies the token of a CONNECT, makes the user known, and opens the session. Called by the connection
 * between CONNECT and CONNACK, which bounds the time that it takes. Fails closed.
 */
import { randomUUID } from 'node:crypto'
import type { AddressLimits } from './address-limits.js'
import type { Config } from './config.js'
import type { Connection } from './connection.js'
import { Refusal } from './errors.js'
import type { Hub } from './hub.js'
import type { Logger } from './logger.js'
import type { Metrics } from './metrics.js'
import type { Identity } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import type { MakeRoom } from './session-limit.js'
import { type Store, StoreUnavailable } from './store/store.js'
import { idRule, isId, unnamedDevice } from './topics.js'

/** CONNACK codes [MQTT-3.2.2.3]. */
const welcome = 0
const badClientId = 2
const tooManyFailures = 3
const badCredentials = 4
const notAuthorized = 5

export interface AdmissionWorld {
  config: Config
  logger: Logger
  metrics: Metrics
  hub: Hub
  plugins: PluginHost
  store: Store
  addresses: AddressLimits
  makeRoom: MakeRoom
}

/**
 * Closed without an answer, which MQTT allows [MQTT-4.8]: a client that lost its connection comes back by itself, while a CONNACK that refuses is
 * the end for some (mqtt.js). So whatever passes by itself is no CONNACK 3.
 */
const unanswered = undefined

const unnamed = (): string => `${unnamedDevice}${randomUUID().slice(0, 13)}`

export function createAdmission(world: AdmissionWorld) {
  const { config, logger, metrics, hub, plugins, store, addresses, makeRoom } = world

  const refused = <Code extends number | undefined>(connection: Connection, code: Code, reason: string): Code => {
    metrics.refusedConnects.inc({ reason })
    logger.info(
      { address: connection.transport.address, user: connection.connect?.username, device: connection.connect?.clientId, reason },
      'connect refused',
    )
    return code
  }

  const admitAnonymous = (connection: Connection): number => {
    if (!config.anonymous) return refused(connection, notAuthorized, 'no credentials')
    connection.caller = { user: '', device: connection.connect?.clientId || unnamed() }
    return welcome
  }

  /**
   * Nobody waits for the disk: who loses his record in a crash is known again by the connect that follows it. Only where other nodes look for
   * him in the store he must be there before he is told that he is connected.
   */
  const knownToAll = async (connection: Connection, identity: Identity): Promise<void> => {
    const known = ensureUser(store, identity)
    if (store.isShared) return known
    known.catch((error) => {
      logger.error({ err: error, ...connection.description() }, 'a new user could not be stored')
      connection.close('the store cannot be written')
    })
  }

  /** The CONNACK code, or `unanswered`. Afterwards the connection has its caller, identity and session. */
  const admit = async (connection: Connection, password: string | undefined): Promise<number | undefined> => {
    const username = connection.connect?.username
    if (username === undefined) return admitAnonymous(connection)
    const { clientId = '', clean = true } = connection.connect ?? {}
    const device = clientId || unnamed()
    const { address } = connection.transport
    if (addresses.loginWaitMs(address, username) > 0) return refused(connection, tooManyFailures, 'too many failed logins')
    const identity = await plugins.authenticate(password ?? '')
    if (!(identity instanceof Refusal) ? identity.user !== username : identity.code === 'forbidden')
      addresses.loginFailed(address, username)
    if (identity instanceof Refusal) {
      return identity.code === 'unavailable' ? refused(connection, unanswered, 'store') : refused(connection, badCredentials, 'bad token')
    }
    if (identity.user !== username || username === '') return refused(connection, badCredentials, 'the token is for another user')
    if (clientId !== '' && !isId(clientId)) return refused(connection, badClientId, `a client id is ${idRule}`)
    if (!(await makeRoom(username, device, { persistent: !clean }))) return refused(connection, notAuthorized, 'too many sessions')
    if (connection.isClosed) return unanswered
    connection.identity = identity
    connection.caller = { user: username, device }
    await knownToAll(connection, identity)
    const opened = await hub.open({ user: username, device, persistent: !clean, outlet: connection })
    connection.opened = opened
    connection.session = opened.session
    if (!connection.isClosed) return welcome
    hub.close(opened.session)
    return unanswered
  }

  return async (connection: Connection, password: string | undefined): Promise<number | undefined> => {
    try {
      return await admit(connection, password)
    } catch (error) {
      if (connection.isClosed) return unanswered
      if (error instanceof StoreUnavailable) {
        logger.warn({ err: error, ...connection.description() }, 'a connect had to be turned away: the store does not answer')
        return refused(connection, unanswered, 'store')
      }
      logger.error({ err: error, ...connection.description() }, 'a connect could not be handled')
      return refused(connection, unanswered, 'fault')
    }
  }
}

/** A first connect makes a user known, so that others can write to him. */
export async function ensureUser({ directory }: Store, { user, isKnown }: Pick<Identity, 'user' | 'isKnown'>): Promise<void> {
  const isThere = isKnown ?? (await directory.user(user)) !== undefined
  if (!isThere) await directory.addUser({ user, createdTs: Date.now() })
}
