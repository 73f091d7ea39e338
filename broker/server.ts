/**
 * Puts a server together and takes it down again: the only file that knows all parts. Used by the command line and, as
 * `import { createServer } from 'parley'`, inside other programs.
 */
import { addMembers, createGroup, type GroupWorld, removeMembers } from '../plugins/groups/groups.js'
import { builtInPlugins } from '../plugins/index.js'
import { AddressLimits } from './address-limits.js'
import { createAdminApi } from './admin-api.js'
import { createAdmission, ensureUser } from './admission.js'
import { AedesAdapter } from './aedes-adapter.js'
import { createAvatars } from './avatars.js'
import { type Bus, LocalBus } from './bus.js'
import { Certificate } from './certificate.js'
import { Cluster } from './cluster/cluster.js'
import { clusterKey } from './cluster/cluster-key.js'
import { type Config, readConfig } from './config.js'
import { safeSecretBytesMin } from './config-settings.js'
import { Connection, type ConnectionWorld } from './connection.js'
import { Deadlines } from './deadlines.js'
import { Delivered } from './delivered.js'
import type { DeviceClaim, DeviceRegistry } from './device-registry.js'
import { ErasedUsers } from './erased-users.js'
import { Erasure } from './erasure.js'
import { createForgetting, type Forget } from './forget.js'
import { createHttp } from './http.js'
import { Hub } from './hub.js'
import { listen } from './listeners.js'
import { StoredLists } from './lists.js'
import { LocalDeviceRegistry } from './local-device-registry.js'
import { LogWriter } from './log-writer.js'
import { createLogger, type Logger } from './logger.js'
import { createMetrics, type Metrics } from './metrics.js'
import { assertWhole } from './migrate/claim.js'
import type { PluginFactory } from './plugin.js'
import { PluginHost } from './plugin-host.js'
import { OwnPositions } from './positions.js'
import { createReadiness } from './readiness.js'
import type { ClusterOpenTopics } from './redis/cluster-open-topics.js'
import { Retention } from './retention.js'
import { createRpc } from './rpc.js'
import { loadSecret } from './secret.js'
import type { Session } from './session.js'
import { createSessionLimit } from './session-limit.js'
import { Signals } from './signals.js'
import { createLmdbStore } from './store/lmdb/lmdb-store.js'
import type { Store } from './store/store.js'
import { createTakeover } from './takeover.js'
import { TopicCache } from './topic-cache.js'
import { directConversation } from './topics.js'
import { TrustedProxies } from './trusted-proxies.js'
import { createUserExport } from './user-export.js'
import { createWillPublisher } from './will.js'

/** Settings as in docs/configuration.md, by their names in code; what is left out has its default. Environment variables are not read. */
export interface ServerOptions extends Partial<Config> {
  /** Further plugins, behind the built-in ones. */
  plugins?: readonly PluginFactory[]
  logger?: Logger
}

export interface Server {
  readonly config: Config
  /** Undefined when it is off. */
  readonly mqttPort: number | undefined
  /** Undefined without TLS. */
  readonly mqttsPort: number | undefined
  readonly httpPort: number
  /** Makes users known, as a first connect would. */
  ensureUsers(users: readonly string[]): Promise<void>
  /** Reads the files of the TLS certificate again, now; without TLS nothing happens. */
  reloadCertificate(): void
  /** Drains: accepts nothing new, finishes what is queued, writes cursors, closes sessions and store. Idempotent. */
  close(): Promise<void>
}

/** Starts a server. Rejects, with nothing left running, when a setting is wrong, the data directory is in use, or a port is taken. */
export async function createServer({ plugins: further = [], logger: givenLogger, ...options }: ServerOptions = {}): Promise<Server> {
  const config = withSecret(readConfig({}, options))
  const logger = givenLogger ?? createLogger(config.logLevel)
  const secretBytes = Buffer.byteLength(config.jwtSecret ?? '')
  if (config.jwtSecret !== undefined && secretBytes < safeSecretBytesMin) {
    logger.warn({ secretBytes }, `PARLEY_JWT_SECRET is short: it can be guessed; ${safeSecretBytesMin} bytes are safe`)
  }
  const undo: Undo = []
  try {
    return await start(config, logger, further, undo)
  } catch (error) {
    await takeDown(undo)
    throw error
  }
}

/** How what was started is stopped again, in the order in which it was started. */
type Undo = (() => Promise<unknown>)[]

/** Last started, first stopped. */
async function takeDown(undo: Undo): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step()
}

function withSecret(config: Config): Config {
  if (config.jwtSecret !== undefined || config.jwtPublicKey !== undefined || config.jwksUrl !== undefined) return config
  return { ...config, jwtSecret: loadSecret(config.dataDir).secret }
}

function createCertificate({ tlsCert, tlsKey }: Config, logger: Logger): Certificate | undefined {
  return tlsCert === undefined || tlsKey === undefined ? undefined : new Certificate({ cert: tlsCert, key: tlsKey }, logger)
}

async function openStore({ mongodbUrl, dataDir }: Config, logger: Logger): Promise<Store> {
  if (mongodbUrl === undefined) return createLmdbStore({ dir: dataDir, logger })
  // Its driver is loaded by those only who need it.
  const { createMongodbStore } = await import('./store/mongodb/mongodb-store.js')
  return createMongodbStore(mongodbUrl)
}

async function openBus({ redisUrl, redisPrefix, nodeId }: Config, store: Store, logger: Logger, undo: Undo): Promise<Bus> {
  if (redisUrl === undefined) return new LocalBus(nodeId)
  const { RedisBus } = await import('./redis/redis-bus.js')
  const bus = await RedisBus.open({ url: redisUrl, prefix: redisPrefix, nodeId, key: await clusterKey(store.records), logger })
  undo.push(async () => bus.close())
  return bus
}

interface DevicesParts {
  config: Config
  bus: Bus
  logger: Logger
  metrics: Metrics
  hub: () => Hub
}

async function openDevices({ config, bus, logger, metrics, hub }: DevicesParts): Promise<DeviceRegistry> {
  const { redisUrl: url, redisPrefix: prefix, presenceGraceMs: graceMs } = config
  if (url === undefined) return new LocalDeviceRegistry({ graceMs })
  const { RedisDeviceRegistry } = await import('./redis/device-registry.js')
  return RedisDeviceRegistry.open({
    url,
    prefix,
    bus,
    logger,
    graceMs,
    overtaken: (user, device, epoch) => hub().overtake(user, device, epoch),
    observeRejoined: () => metrics.rejoined.inc(),
  })
}

interface ClusterParts {
  store: Store
  logger: Logger
  bus: Bus
  metrics: Metrics
  hub: () => Hub
  log: () => LogWriter
}

function createCluster({ store, logger, bus, metrics, hub, log }: ClusterParts): Cluster {
  return new Cluster({
    store,
    logger,
    bus,
    audience: hub,
    learned: (written) => {
      store.log.heard?.(written)
      log().conversations.learn(written.conv, written.entry, written.effects)
    },
    missed: (conv) => log().conversations.forget(conv),
    observe: { recovered: (entries) => metrics.recovered.inc(entries), lost: () => metrics.lostFrames.inc() },
  })
}

const claimOf = ({ user, device, epoch }: Session): DeviceClaim => ({ user, device, epoch })

/** Of a cluster; undefined without one. */
async function shareOpenTopics({ redisUrl: url, redisPrefix: prefix }: Config, logger: Logger): Promise<ClusterOpenTopics | undefined> {
  if (url === undefined) return undefined
  // Its client is loaded by those only who need it.
  const { connectOpenTopics } = await import('./redis/cluster-open-topics.js')
  return connectOpenTopics({ url, prefix, logger })
}

async function start(config: Config, logger: Logger, further: readonly PluginFactory[], undo: Undo): Promise<Server> {
  const store = await openStore(config, logger)
  undo.push(() => store.close())
  await assertWhole(store)
  const metrics = createMetrics()
  const plugins = new PluginHost(logger, store.directory)
  const bus = await openBus(config, store, logger, undo)
  const delivered = new Delivered({ records: store.records, logger, moved: (user, conv, seq) => plugins.delivered(user, conv, seq) })
  const devices = await openDevices({ config, bus, logger, metrics, hub: () => hub })
  undo.push(async () => devices.close())
  // From here on the others are heard: until the hub and the log writer are there, nothing may be waited for.
  const cluster = config.redisUrl === undefined ? undefined : createCluster({ store, logger, bus, metrics, hub: () => hub, log: () => log })
  undo.push(async () => cluster?.close())
  const tellTakeover = cluster && createTakeover(bus, () => hub, logger)
  const hub: Hub = new Hub({
    store,
    logger,
    positions: cluster?.positions ?? new OwnPositions(store, (conv, head) => log.isAhead(conv, head)),
    limits: { window: config.window, socketBytesMax: config.socketBytesMax },
    backlog: { sessionMax: config.sessionBacklogMax, conversationMax: config.conversationBacklogMax },
    delivered: (user, conv, seq) => delivered.acknowledged(user, conv, seq),
    opened: (session) => {
      devices.claim(claimOf(session))
      tellTakeover?.(session)
    },
    closed: (session) => devices.release(claimOf(session)),
    observe: {
      delivered: (messages) => metrics.delivered.inc(messages),
      replayed: (messages) => metrics.replayed.inc(messages),
      overtaken: () => metrics.overtaken.inc(),
    },
  })
  const log: LogWriter = new LogWriter({
    store,
    logger,
    retryMs: config.storeRetryMs,
    judge: (from, to) => plugins.authorizeDirect(from, to),
    ...(cluster && { found: (conv, seq) => cluster.found(conv, seq), ended: (conv, seq) => cluster.ended(conv, seq) }),
    dispatch: (conv, entry, effects) => {
      if (cluster === undefined) hub.dispatch(conv, entry, effects)
      else cluster.written(conv, entry, effects)
      plugins.messageStored(conv, entry)
      if (effects.length > 0) plugins.membersChanged(conv, effects)
    },
    observe: (outcome, count) => metrics.sends[outcome].inc(count),
    observeAppendSeconds: (seconds) => metrics.appendSeconds.observe(seconds),
    observeDeliverySeconds: (seconds) => metrics.deliverySeconds.observe(seconds),
  })
  const rpc: PluginFactory = () => createRpc({ plugins, metrics, store })
  const forgetDevice: Forget = (user, device) => forget.device(user, device)
  const signals = new Signals(hub, bus, logger)
  const avatars = createAvatars(() => plugins, store.directory)
  plugins.install(
    [...builtInPlugins, rpc, ...further].map((create) =>
      create({
        config,
        logger,
        store,
        log,
        hub,
        bus,
        signals,
        delivered,
        lists: cluster?.lists ?? new StoredLists(store),
        registry: metrics.registry,
        avatars,
        devices,
        forget: forgetDevice,
        preparerOf: (type) => plugins.preparerOf(type),
        readMoved: (user, conv, seq) => plugins.readMoved(user, conv, seq),
        directChanged: (user, peer) => {
          log.conversations.changed(directConversation(user, peer))
          plugins.directChanged(user, peer)
        },
        busyChanged: (user) => plugins.busyChanged(user),
        isBusy: (user) => plugins.isBusy(user),
      }),
    ),
  )

  undo.push(() => plugins.close())
  await plugins.start()

  const openTopics = await shareOpenTopics(config, logger)
  undo.push(async () => openTopics?.close())
  const adapter = new AedesAdapter({
    config,
    logger,
    plugins,
    store,
    shared: openTopics?.create,
    publishWill: createWillPublisher(plugins),
  })
  const forget = createForgetting({ hub, adapter, bus, logger })
  const erased = new ErasedUsers({ store, bus, logger, conversations: log.conversations, forget })
  const erasure = new Erasure({ store, hub, forget, log, logger, plugins, delivered, erased })
  const retention = new Retention({ store, logger, plugins, days: config.retentionDays, node: bus.node })
  undo.push(async () => void (await Promise.all([erasure.close(), retention.close(), erased.close()])))
  const certificate = createCertificate(config, logger)
  undo.push(async () => certificate?.stop())
  metrics.watch({
    sessions: () => hub.sessionCount,
    behind: () => hub.behindCount,
    waiting: () => log.waiting,
    unsaved: () => adapter.unsaved,
    devices,
    cluster,
    certificateExpiresMs: certificate && (() => certificate.expiresMs),
  })
  await adapter.listen()
  undo.push(() => adapter.close())

  const proxies = new TrustedProxies(config.trustedProxies)
  const addresses = new AddressLimits(config)
  const makeRoom = createSessionLimit({ max: config.sessionsPerUser, hub, sessions: store.sessions, forget: forgetDevice })
  const connections = new Set<Connection>()
  const deadlines = new Deadlines()
  undo.push(async () => deadlines.stop())
  const world: ConnectionWorld = {
    config,
    logger,
    metrics,
    hub,
    plugins,
    adapter,
    admit: createAdmission({ config, logger, metrics, hub, plugins, store, addresses, makeRoom }),
    deadlines,
    topics: new TopicCache(),
    onClosed(connection) {
      connections.delete(connection)
      metrics.connections[connection.transport.kind]--
    },
  }

  let isDraining = false
  const groupWorld: GroupWorld = { log, directory: store.directory, membersMax: config.groupMembersMax, now: Date.now }
  const http = createHttp({
    config,
    logger,
    metrics,
    plugins,
    proxies,
    addresses,
    certificate,
    ensureUser: (identity) => ensureUser(store, identity),
    notReady: createReadiness({ log, store, isDraining: () => isDraining }),
    admin: createAdminApi({
      config,
      hub,
      store,
      now: Date.now,
      forget,
      erase: (user) => erasure.erase(user),
      exportUser: createUserExport({ store, plugins, delivered }),
      groups: {
        create: (owner, params) => createGroup(groupWorld, owner, params),
        add: (group, users) => addMembers(groupWorld, { kind: 'operator' }, group, users),
        remove: (group, users) => removeMembers(groupWorld, { kind: 'operator' }, group, users),
      },
    }),
  })
  undo.push(() => http.close())
  const listeners = await listen({
    config,
    logger,
    http: http.server,
    certificate,
    proxies,
    addresses,
    connections: () => connections.size,
    refused(address) {
      metrics.refusedConnects.inc({ reason: 'too many from one address' })
      logger.debug({ address }, 'a connection was turned away: there are too many from its address')
    },
    accept(transport) {
      metrics.connections[transport.kind]++
      connections.add(new Connection(transport, world))
    },
  })
  undo.push(async () => listeners.stop())
  await http.listen({ host: config.host, port: config.httpPort })
  const httpPort = (http.server.address() as { port: number }).port
  const { mqttPort, mqttsPort } = listeners
  logger.info({ mqttPort, mqttsPort, httpPort, host: config.host }, 'listening')

  await erasure.start()
  erased.start()
  retention.start()

  const drain = async (): Promise<void> => {
    isDraining = true
    listeners.stop()
    const swept = Promise.all([erasure.close(), retention.close()])
    await Promise.race([log.close(), new Promise((resolve) => setTimeout(resolve, config.drainMs).unref())])
    for (const connection of [...connections]) connection.close('the server is shutting down')
    await swept
    await hub.flush()
    await delivered.flush()
    await takeDown(undo)
    logger.info('drained')
  }
  let closing: Promise<void> | undefined
  return {
    config,
    mqttPort,
    mqttsPort,
    httpPort,
    ensureUsers: async (users) => void (await Promise.all(users.map((user) => ensureUser(store, { user })))),
    reloadCertificate: () => certificate?.reload(),
    close: () => {
      closing ??= drain()
      return closing
    },
  }
}
