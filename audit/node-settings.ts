/** The environment of an audited node: the PARLEY_… settings of whoever runs the audit, but for those that the audit must decide. */
import { fileURLToPath } from 'node:url'

/** The server of this build. */
export const ownCli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))

/** What the audit must decide itself: where data lies, which tokens count, and that neither a rate nor TLS stands in the way. */
const ownSettings = [
  ...['HOST', 'MQTT_PORT', 'HTTP_PORT', 'DATA_DIR', 'MONGODB_URL', 'REDIS_URL', 'LOG_LEVEL', 'RATE_LIMIT'],
  ...['TLS_CERT', 'TLS_KEY', 'MQTTS_PORT', 'JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWKS_URL', 'JWT_ISSUER', 'JWT_AUDIENCE', 'NODE_ID'],
].map((name) => `PARLEY_${name}`)

export const nodeSettings = (secret: string, dataDir: string): Record<string, string> => ({
  ...Object.fromEntries(ownSettings.map((name) => [name, ''])),
  PARLEY_HOST: '127.0.0.1',
  PARLEY_MQTT_PORT: '0',
  PARLEY_HTTP_PORT: '0',
  PARLEY_DATA_DIR: dataDir,
  PARLEY_JWT_SECRET: secret,
  PARLEY_RATE_LIMIT: 'off',
  PARLEY_TOPICS: withFuzzTopics(process.env.PARLEY_TOPICS ?? ''),
})

/** The user's rules, and behind them one that lets the fuzzer reach what is done with application topics. */
function withFuzzTopics(rules: string): string {
  const fuzz = JSON.stringify({ topic: 'fuzz/#', publish: true, subscribe: true })
  const [, own] = /^\s*\[(.*)\]\s*$/s.exec(rules === '' ? '[]' : rules) ?? []
  if (own === undefined) return rules // The server says what is wrong with it.
  return own.trim() === '' ? `[${fuzz}]` : `[${own},${fuzz}]`
}
