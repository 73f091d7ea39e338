/**
 * Every setting there is: its name in Config, its environment variable, default, unit and meaning.
 * docs/configuration.md has one row for each line; a test holds the two equal.
 */

import { mediaSettings } from './media-settings.js'
import { faultsOfRedisUrl, redisUrlRule } from './redis/redis-url.js'
import {
  addressRanges,
  choice,
  flag,
  integer,
  integerOrOff,
  optionalText,
  origins,
  publicKey,
  rate,
  type Setting,
  secretText,
  text,
  topicRules,
} from './setting-kinds.js'
import { idRule } from './topics.js'

const kilobyte = 1024
const megabyte = 1024 * kilobyte
const hour = 3_600_000
/** Enough to try things on loopback; the server warns. */
const secretBytesMin = 1
/** What HS256 needs to be safe [RFC 7518, 3.2]; demanded wherever others can connect. */
export const safeSecretBytesMin = 32

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const urlOf =
  (...schemes: string[]) =>
  (url: string): string[] =>
    schemes.some((scheme) => url.startsWith(`${scheme}://`) && url.length > scheme.length + 3)
      ? []
      : [`it must begin with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`]

function faultsOfSecret(secret: string): string[] {
  if (secret.includes('-----BEGIN'))
    return ['it is a PEM key, which is no secret for HS256; a public key belongs into PARLEY_JWT_PUBLIC_KEY']
  const bytes = Buffer.byteLength(secret)
  return bytes < secretBytesMin
    ? [`it has ${bytes} bytes and must have at least ${safeSecretBytesMin}; make one with: openssl rand -base64 48`]
    : []
}

function faultsOfUrl(url: string): string[] {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return ['it is not an http or https URL']
  return new URL(url).username === '' && new URL(url).password === '' ? [] : ['a URL with credentials is not accepted']
}

const where = {
  host: text(
    { env: 'PARLEY_HOST', description: 'address to listen on; any other than loopback needs a secret, key or JWKS of your own' },
    '127.0.0.1',
    /^[A-Za-z0-9._:%-]{1,253}$/,
    'an IP address or host name',
  ),
  mqttPort: integerOrOff(
    { env: 'PARLEY_MQTT_PORT', description: 'port for MQTT over plain TCP; 0 takes any free port; off, with TLS only, opens none' },
    1883,
    0,
    65_535,
  ),
  mqttsPort: integer(
    { env: 'PARLEY_MQTTS_PORT', description: 'port for MQTT over TLS, when there is a certificate; 0 takes any free port' },
    8883,
    0,
    65_535,
  ),
  httpPort: integer(
    {
      env: 'PARLEY_HTTP_PORT',
      description: 'port for HTTP, the chat page and MQTT over WebSocket, all in TLS when there is a certificate; 0 takes any free port',
    },
    8080,
    0,
    65_535,
  ),
  tlsCert: optionalText(
    { env: 'PARLEY_TLS_CERT', description: "certificate of the server, with the issuer's behind it; read again when the file changes" },
    'the path of a PEM file, together with PARLEY_TLS_KEY',
  ),
  tlsKey: optionalText(
    { env: 'PARLEY_TLS_KEY', description: 'its private key, without a passphrase' },
    'the path of a PEM file, together with PARLEY_TLS_CERT',
  ),
  allowedOrigins: origins({
    env: 'PARLEY_ALLOWED_ORIGINS',
    description: 'origins whose pages may open a WebSocket, beside the own one; clients without an Origin header always may',
  }),
  trustedProxies: addressRanges({
    env: 'PARLEY_TRUSTED_PROXIES',
    description:
      'proxies that are believed which address a client has: by X-Forwarded-For on the HTTP port, and by the PROXY header that each of their connections to the MQTT ports must begin with',
  }),
  dataDir: text(
    { env: 'PARLEY_DATA_DIR', description: 'folder of the embedded store and of the generated secret' },
    './data',
    /./,
    'a path',
  ),
  mongodbUrl: secretText(
    {
      env: 'PARLEY_MONGODB_URL',
      description:
        'the store of a cluster, with credentials and `tls=true` where needed; the path names the database, `parley` without one',
    },
    'a mongodb or mongodb+srv URL, together with PARLEY_REDIS_URL',
    urlOf('mongodb', 'mongodb+srv'),
  ),
  redisUrl: secretText(
    {
      env: 'PARLEY_REDIS_URL',
      description:
        'what the nodes of a cluster tell each other over; `?ca=` is the path of the authority for TLS, Sentinel and Cluster take `?tls=true`, Sentinel also `db`, `sentinelUsername` and `sentinelPassword`',
    },
    redisUrlRule,
    faultsOfRedisUrl,
  ),
  redisPrefix: text(
    {
      env: 'PARLEY_REDIS_PREFIX',
      description: 'what all keys and channels in Redis begin with; different ones let two deployments share a server',
    },
    'parley:',
    /^[A-Za-z0-9._:-]{1,64}$/,
    'up to 64 letters, digits and . _ : -',
  ),
  nodeId: text(
    { env: 'PARLEY_NODE_ID', description: 'name of this node in logs and metrics; in a cluster each has its own' },
    'node-1',
    /^[A-Za-z0-9_.~-]{1,64}$/,
    idRule,
  ),
  logLevel: choice(
    { env: 'PARLEY_LOG_LEVEL', description: 'the least important line that is logged, as JSON on stderr' },
    'info',
    logLevels,
  ),
}

const who = {
  jwtSecret: secretText(
    { env: 'PARLEY_JWT_SECRET', description: 'HS256 secret of the tokens; not set: one is generated and kept in the data folder' },
    `at least ${safeSecretBytesMin} bytes; any on loopback`,
    faultsOfSecret,
  ),
  jwtPublicKey: publicKey({ env: 'PARLEY_JWT_PUBLIC_KEY', description: "key of your issuer's tokens; its type fixes the algorithm" }),
  jwksUrl: optionalText(
    { env: 'PARLEY_JWKS_URL', description: "where your issuer's keys are read (RS256, ES256, EdDSA); use https outside a private network" },
    'an http or https URL',
    faultsOfUrl,
  ),
  jwtIssuer: optionalText({ env: 'PARLEY_JWT_ISSUER', description: '`iss` that every token must have; not set: not checked' }, 'text'),
  jwtAudience: optionalText({ env: 'PARLEY_JWT_AUDIENCE', description: '`aud` that every token must have; not set: not checked' }, 'text'),
  anonymous: flag({
    env: 'PARLEY_ANONYMOUS',
    description: 'lets clients without credentials in as nobody: application topics only, no chat',
  }),
  strangers: choice({ env: 'PARLEY_STRANGERS', description: 'whether direct messages are taken from others than friends' }, 'allow', [
    'allow',
    'refuse',
  ] as const),
  topics: topicRules({
    env: 'PARLEY_TOPICS',
    description: 'who may use application topics, first match wins, a level `{user}` is the own user id; nobody by default',
  }),
}

const limits = {
  rateLimit: rate(
    {
      env: 'PARLEY_RATE_LIMIT',
      description:
        'publishes and calls of one user over all devices; off switches off all limits of this kind, those down to PARLEY_FAILED_LOGIN_RATE_LIMIT',
    },
    { perSecond: 100, burst: 1000 },
  ),
  groupRateLimit: rate(
    { env: 'PARLEY_GROUP_RATE_LIMIT', description: 'messages into one group, of all its members together' },
    { perSecond: 200, burst: 2000 },
  ),
  ipRateLimit: rate(
    { env: 'PARLEY_IP_RATE_LIMIT', description: 'HTTP requests from one address, or from one /64 of IPv6' },
    { perSecond: 500, burst: 5000 },
  ),
  ipConnectionsMax: integerOrOff(
    { env: 'PARLEY_IP_CONNECTIONS_MAX', description: 'open connections from one address, or from one /64 of IPv6' },
    10_000,
    1,
    10_000_000,
  ),
  ipConnectRateLimit: rate(
    { env: 'PARLEY_IP_CONNECT_RATE_LIMIT', description: 'new connections from one address, or from one /64 of IPv6' },
    { perSecond: 200, burst: 5000 },
  ),
  ipFailedLoginRateLimit: rate(
    {
      env: 'PARLEY_IP_FAILED_LOGIN_RATE_LIMIT',
      description: 'failed logins from one address, or from one /64 of IPv6; past it nobody logs in from there',
    },
    { perSecond: 50, burst: 1000 },
  ),
  failedLoginRateLimit: rate(
    {
      env: 'PARLEY_FAILED_LOGIN_RATE_LIMIT',
      description: 'failed logins of one account from one address; past it that account does not log in from there',
    },
    { perSecond: 1, burst: 60 },
  ),
  payloadBytesMax: integer(
    { env: 'PARLEY_PAYLOAD_BYTES_MAX', unit: 'bytes', description: 'payload of one publish; over it is refused with `too_large`' },
    64 * kilobyte,
    1,
    64 * megabyte,
  ),
  packetBytesMax: integer(
    { env: 'PARLEY_PACKET_BYTES_MAX', unit: 'bytes', description: 'one MQTT packet; over it closes the connection' },
    256 * kilobyte,
    kilobyte,
    128 * megabyte,
  ),
  connectBytesMax: integer(
    { env: 'PARLEY_CONNECT_BYTES_MAX', unit: 'bytes', description: 'all that a connection may send before it is accepted' },
    8 * kilobyte,
    256,
    megabyte,
  ),
  connectTimeoutMs: integer(
    { env: 'PARLEY_CONNECT_TIMEOUT_MS', unit: 'ms', description: 'time from opening a connection to being accepted' },
    5000,
    1,
    hour,
  ),
  connectionsMax: integer({ env: 'PARLEY_CONNECTIONS_MAX', description: 'open connections' }, 100_000, 1, 10_000_000),
  sessionsPerUser: integer(
    {
      env: 'PARLEY_SESSIONS_PER_USER',
      description: 'sessions of one user, connected or stored; a new device takes the place of the stored one that was seen least recently',
    },
    100,
    1,
    10_000,
  ),
  sessionExpiryDays: integerOrOff(
    { env: 'PARLEY_SESSION_EXPIRY_DAYS', unit: 'days', description: 'a stored session that was not seen for so long is forgotten' },
    90,
    1,
    3_650,
  ),
  window: integer({ env: 'PARLEY_WINDOW', unit: 'messages', description: 'delivered to a session and not yet acknowledged' }, 128, 1, 1024),
  sessionBacklogMax: integer(
    { env: 'PARLEY_SESSION_BACKLOG_MAX', unit: 'messages', description: 'replayed to a returning session; older ones are cut and named' },
    10_000,
    1,
    10_000_000,
  ),
  conversationBacklogMax: integer(
    { env: 'PARLEY_CONVERSATION_BACKLOG_MAX', unit: 'messages', description: 'the same, of one conversation' },
    1000,
    1,
    10_000_000,
  ),
  groupMembersMax: integer({ env: 'PARLEY_GROUP_MEMBERS_MAX', description: 'members of a group' }, 500, 1, 100_000),
  socketBytesMax: integer(
    { env: 'PARLEY_SOCKET_BYTES_MAX', unit: 'bytes', description: 'unsent bytes that a socket may hold; past it the session waits' },
    megabyte,
    kilobyte,
    256 * megabyte,
  ),
  slowClientMs: integer(
    { env: 'PARLEY_SLOW_CLIENT_MS', unit: 'ms', description: 'a client whose socket took nothing for so long is closed' },
    60_000,
    1,
    24 * hour,
  ),
  storeRetryMs: integer(
    { env: 'PARLEY_STORE_RETRY_MS', unit: 'ms', description: 'how long a write is retried before the connection is closed unacknowledged' },
    10_000,
    0,
    hour,
  ),
  recallMs: integer(
    {
      env: 'PARLEY_RECALL_MS',
      unit: 'ms',
      description: 'how old an own message may be to be recalled; owner and admins of a group always may',
    },
    24 * hour,
    0,
    100 * 365 * 24 * hour,
  ),
  retentionDays: integer(
    {
      env: 'PARLEY_RETENTION_DAYS',
      unit: 'days',
      description: 'age at which the content of messages is erased, in the background; 0 keeps everything',
    },
    0,
    0,
    36_500,
  ),
  filtersMax: integer({ env: 'PARLEY_FILTERS_MAX', description: 'topic filters in one SUBSCRIBE' }, 100, 1, 10_000),
  subscriptionsMax: integer({ env: 'PARLEY_SUBSCRIPTIONS_MAX', description: 'subscriptions of one session' }, 500, 1, 100_000),
  presenceGraceMs: integer(
    { env: 'PARLEY_PRESENCE_GRACE_MS', unit: 'ms', description: 'a user whose last connection has ended is shown online for so long' },
    5_000,
    0,
    hour,
  ),
  drainMs: integer(
    { env: 'PARLEY_DRAIN_MS', unit: 'ms', description: 'time for what is under way when the server stops' },
    10_000,
    0,
    hour,
  ),
}

/** What PARLEY_RATE_LIMIT=off switches off. */
export const rateLimits = [
  'groupRateLimit',
  'ipRateLimit',
  'ipConnectionsMax',
  'ipConnectRateLimit',
  'ipFailedLoginRateLimit',
  'failedLoginRateLimit',
] as const

export const settings = { ...where, ...who, ...limits, ...mediaSettings }

export type Settings = typeof settings
export type SettingName = keyof Settings
export type SettingValue<S> = S extends Setting<infer V> ? V : never
