/**
 * Reads the configuration: environment variables and, over them, values given in code. All of it is checked before
 * anything starts and all faults are thrown together as one ConfigError, so a Config that exists is complete and valid.
 * Called by the command line and by createServer.
 */
import { isIPv4 } from 'node:net'
import { Value } from 'typebox/value'
import { rateLimits, type SettingName, type Settings, type SettingValue, safeSecretBytesMin, settings } from './config-settings.js'
import { faultsOfMedia } from './media-settings.js'
import { nearMiss } from './near-miss.js'
import { OperatorError } from './operator-error.js'
import type { Setting } from './setting-kinds.js'
import { faultsOfTls } from './tls-options.js'

/** The effective value of every setting; undefined where nothing is set and nothing is assumed. */
export type Config = { readonly [K in SettingName]: SettingValue<Settings[K]> }

/** What the operator has to change; the message lists all faults. */
export class ConfigError extends OperatorError {
  override name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(
      `The configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`,
    )
    this.faults = faults
  }
}

type Environment = Readonly<Record<string, string | undefined>>

const table = Object.entries(settings) as [SettingName, Setting<unknown>][]
const shownMax = 80
// The rest of a packet beside its payload: fixed header, packet id and the longest chat topic, rounded up.
const packetOverheadBytes = 256

/**
 * Throws ConfigError. An environment variable that is empty counts as not set. An override of `undefined`
 * means not set, or off, where the setting knows such a state, and otherwise is ignored.
 */
export function readConfig(env: Environment, overrides: Partial<Config> = {}): Config {
  const faults = [...unknownVariables(env), ...unknownOverrides(overrides)]
  const values: Partial<Record<SettingName, unknown>> = {}
  for (const [name, setting] of table) {
    const given = givenValue(name, setting, env, overrides, faults)
    if (given === undefined) continue
    const wrong = given.value === undefined ? [] : faultsOf(setting, given.value)
    faults.push(...wrong.map((fault) => `${setting.env} is ${shown(setting, given.text ?? given.value)}: ${fault}`))
    values[name] = wrong.length === 0 ? given.value : setting.default
  }
  for (const [name, setting] of table) if (!(name in values)) values[name] = setting.default
  if (values.rateLimit === undefined) for (const name of rateLimits) values[name] = undefined
  faults.push(...contradictions(values as Config))
  if (faults.length > 0) throw new ConfigError(faults)
  return Object.freeze(values) as Config
}

function givenValue(
  name: SettingName,
  setting: Setting<unknown>,
  env: Environment,
  overrides: Partial<Config>,
  faults: string[],
): { value: unknown; text?: string } | undefined {
  if (name in overrides && (overrides[name] !== undefined || setting.optional)) return { value: overrides[name] }
  const text = env[setting.env]?.trim()
  if (text === undefined || text === '') return { value: setting.default }
  try {
    return { value: setting.parse(text), text }
  } catch (error) {
    faults.push(`${setting.env} is ${shown(setting, text)}: ${(error as Error).message}; allowed is ${setting.allowed}`)
    return undefined
  }
}

function faultsOf(setting: Setting<unknown>, value: unknown): string[] {
  if (Value.Check(setting.schema, value)) return setting.check(value)
  const places = Value.Errors(setting.schema, value).filter((error) => error.instancePath !== '' && error.keyword !== 'boolean')
  const details = places.map((error) => `; at ${error.instancePath}: ${error.message}${extraFields(error.params)}`)
  return [`allowed is ${setting.allowed}${details.join('')}`, ...setting.checkParts(value)]
}

function extraFields(params: object): string {
  return 'additionalProperties' in params ? ` (${String(params.additionalProperties)})` : ''
}

/** Of a URL. */
const credentials = /\/\/[^/@\s]*@/g

function shown(setting: Setting<unknown>, value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  if (setting.secret) return `(hidden, ${text.length} characters)`
  const open = text.replace(credentials, '//(hidden)@')
  const quoted = typeof value === 'string' ? JSON.stringify(open) : open
  return quoted.length > shownMax ? `${quoted.slice(0, shownMax)}…` : quoted
}

/** Faults that only several settings together have. */
function contradictions(config: Config): string[] {
  const faults: string[] = []
  const sources = [config.jwtSecret, config.jwtPublicKey, config.jwksUrl].filter((source) => source !== undefined).length
  if (sources > 1) {
    faults.push('only one of PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY and PARLEY_JWKS_URL may be set: tokens have one issuer')
  }
  if (sources === 0 && !isLoopback(config.host)) {
    faults.push(
      `PARLEY_HOST is "${config.host}", which others can reach: set PARLEY_JWT_SECRET (at least 32 bytes), PARLEY_JWT_PUBLIC_KEY or PARLEY_JWKS_URL; a generated secret serves loopback only`,
    )
  }
  const secretBytes = Buffer.byteLength(config.jwtSecret ?? '')
  if (config.jwtSecret !== undefined && secretBytes < safeSecretBytesMin && !isLoopback(config.host)) {
    faults.push(
      `PARLEY_JWT_SECRET has ${secretBytes} bytes: off loopback it must have at least ${safeSecretBytesMin}; make one with: openssl rand -base64 48`,
    )
  }
  faults.push(...clusterFaults(config), ...portFaults(config), ...faultsOfTls(config.tlsCert, config.tlsKey), ...faultsOfMedia(config))
  if (config.packetBytesMax < config.payloadBytesMax + packetOverheadBytes) {
    faults.push(
      `PARLEY_PACKET_BYTES_MAX is ${config.packetBytesMax}: it must be at least ${packetOverheadBytes} more than PARLEY_PAYLOAD_BYTES_MAX (${config.payloadBytesMax})`,
    )
  }
  return faults
}

function clusterFaults({ mongodbUrl, redisUrl, jwtSecret, jwtPublicKey, jwksUrl }: Config): string[] {
  if (mongodbUrl === undefined && redisUrl === undefined) return []
  if (mongodbUrl === undefined) return ['PARLEY_REDIS_URL is set without PARLEY_MONGODB_URL: a cluster needs both']
  if (redisUrl === undefined) return ['PARLEY_MONGODB_URL is set without PARLEY_REDIS_URL: a cluster needs both']
  if (jwtSecret === undefined && jwtPublicKey === undefined && jwksUrl === undefined) {
    return [
      'PARLEY_MONGODB_URL and PARLEY_REDIS_URL are set: all nodes must know the same tokens, so set PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY or PARLEY_JWKS_URL',
    ]
  }
  return []
}

function portFaults(config: Config): string[] {
  const isTls = config.tlsCert !== undefined || config.tlsKey !== undefined
  const ports: [string, number | undefined][] = [
    ['PARLEY_MQTT_PORT', config.mqttPort],
    ...(isTls ? [['PARLEY_MQTTS_PORT', config.mqttsPort] as [string, number]] : []),
    ['PARLEY_HTTP_PORT', config.httpPort],
  ]
  const faults = ports.flatMap(([name, port], at) =>
    ports
      .slice(at + 1)
      .filter(([, other]) => other === port && port !== 0)
      .map(([other]) => `${name} and ${other} are both ${port}: each needs a port of its own`),
  )
  if (config.mqttPort === undefined && !isTls) {
    faults.push('PARLEY_MQTT_PORT is off: that needs PARLEY_TLS_CERT and PARLEY_TLS_KEY, or no port would be left for MQTT')
  }
  return faults
}

/** True for an address that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

function unknownVariables(env: Environment): string[] {
  const known = table.map(([, setting]) => setting.env)
  const unknown = Object.keys(env).filter((name) => name.startsWith('PARLEY_') && !name.startsWith('PARLEY_TEST_') && !known.includes(name))
  return unknown.map((name) => `${name} is not a setting${suggestion(name, known)}`)
}

function unknownOverrides(overrides: object): string[] {
  const unknown = Object.keys(overrides).filter((name) => !Object.hasOwn(settings, name))
  return unknown.map((name) => `option ${name} is not a setting${suggestion(name, Object.keys(settings))}`)
}

function suggestion(name: string, known: readonly string[]): string {
  const near = nearMiss(name, known)
  return near === undefined ? '; docs/configuration.md lists them all' : `; did you mean ${near}?`
}

/** The effective settings as lines of an environment file, secrets hidden. */
export function describeConfig(config: Config): string {
  const lines = table.map(([name, setting]) => {
    const value = config[name]
    if (value === undefined && setting.default === undefined) return `# ${setting.env} is not set`
    return `${setting.env}=${setting.secret ? '(hidden)' : setting.print(value)}`
  })
  return lines.join('\n')
}
