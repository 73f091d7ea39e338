/**
 * What `parley start` prints when the server is up: where it is and what to do next. On loopback with an HS256 secret
 * it offers links and commands that can be pasted, with real tokens for two demo users; elsewhere tokens are not shown.
 */
import { resolve } from 'node:path'
import { type Config, isLoopback } from './config.js'
import { mintToken } from './token.js'
import { deliveryTopic, directConversation } from './topics.js'

export interface BannerFacts {
  config: Config
  /** Undefined where nothing listens. */
  mqttPort: number | undefined
  mqttsPort: number | undefined
  httpPort: number
  /** The HS256 secret; undefined when tokens come from elsewhere. */
  secret: string | undefined
  /** How this command line is called. */
  command: string
}

export const demoUsers = ['alice', 'bob'] as const

const tokenHours = 24

export async function createBanner(facts: BannerFacts): Promise<string> {
  const { config, mqttPort, mqttsPort, httpPort, secret, command } = facts
  const host = /^(0\.0\.0\.0|::)$/.test(config.host) ? 'localhost' : config.host
  const urlHost = host.includes(':') ? `[${host}]` : host
  const s = mqttsPort === undefined ? '' : 's'
  const page = `http${s}://${urlHost}:${httpPort}/`
  const doors = [
    ...(mqttPort === undefined ? [] : [`${urlHost}:${mqttPort}`]),
    ...(mqttsPort === undefined ? [] : [`over TLS: ${urlHost}:${mqttsPort}`]),
    `over WebSocket: ws${s}://${urlHost}:${httpPort}/mqtt`,
  ]
  const lines = ['Parley is running.', '', `  Chat page   ${page}`, `  MQTT        ${doors.join('   ')}`, '']
  if (secret === undefined) lines.push('Tokens come from your issuer: the user id is the user name, the token is the password.')
  else if (isLoopback(config.host))
    lines.push(
      ...(await demoCommands(config, secret, { host, port: mqttPort, page })),
      `A token for anybody else:  ${command} token carol${secretPlace(config)}`,
    )
  else lines.push(`A token for a user:  ${command} token alice`)
  return `${lines.join('\n')}\n`
}

/** Where the command finds the secret, when it is not where it looks by itself. */
const secretPlace = ({ dataDir, jwtSecret }: Config): string =>
  jwtSecret === undefined && dataDir !== './data' ? ` --data-dir ${resolve(dataDir)}` : ''

interface Place {
  host: string
  /** Of MQTT without TLS. */
  port: number | undefined
  /** URL of the chat page. */
  page: string
}

async function demoCommands(config: Config, secret: string, { host, port, page }: Place): Promise<string[]> {
  const [alice, bob] = demoUsers
  const expiresInSeconds = tokenHours * 3600
  const mint = (user: string) => mintToken({ secret, user, expiresInSeconds, issuer: config.jwtIssuer, audience: config.jwtAudience })
  const topic = deliveryTopic(directConversation(alice, bob), bob)
  const inbox = topic.replace(/[^/]*$/, '#')
  const tokens = { alice: await mint(alice), bob: await mint(bob) }
  const asBob = `-h ${host} -p ${port} -u ${bob} -P '${tokens.bob}'`
  const asAlice = `-h ${host} -p ${port} -u ${alice} -P '${tokens.alice}'`
  const pages = [
    `Try it: open these in two tabs, and the two can talk. The tokens are good for ${tokenHours} hours.`,
    '',
    // The token stands in the fragment, which a browser never sends; the page takes it out of the address at once.
    `  ${page}#user=${alice}&token=${tokens.alice}`,
    '',
    `  ${page}#user=${bob}&token=${tokens.bob}`,
    '',
  ]
  // Over TLS they would need to know who signed the certificate.
  if (port === undefined) return pages
  return [
    ...pages,
    `In two terminals: ${bob} listens in one, ${alice} writes in the other.`,
    '',
    `  mosquitto_sub ${asBob} -i phone -t '${inbox}' -q 1 -v`,
    '',
    `  mosquitto_pub ${asAlice} -i laptop -t ${topic} -q 1 -m 'hello'`,
    '',
    'The same without mosquitto:',
    '',
    `  npx mqtt sub ${asBob} -i tablet -t '${inbox}' -q 1 -v`,
    '',
    `  npx mqtt pub ${asAlice} -i desktop -t ${topic} -q 1 -m 'hello'`,
    '',
  ]
}
