#!/usr/bin/env -S node --max-semi-space-size=64
/**
 * The command line: `parley start` (the default), `parley token`, `parley migrate`, `parley compact` and `parley prove`. What the operator got wrong is answered with
 * a readable report on stderr and exit code 2; only a fault of the program shows a stack trace and exits with 1.
 */
import { readFileSync } from 'node:fs'
import { basename, relative } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { RawProveOptions } from '../audit/options.js'
import { createBanner, demoUsers } from './banner.js'
import { type Config, describeConfig, isLoopback, readConfig } from './config.js'
import { endOnFault } from './end-on-fault.js'
import { nearMiss } from './near-miss.js'
import { OperatorError } from './operator-error.js'
import { loadSecret } from './secret.js'
import { stopOnSignal } from './stop-on-signal.js'
import { mintToken } from './token.js'
import { idRule, isId } from './topics.js'

const secondsOf: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }
const ttlSecondsMax = 3650 * 86_400
// Beyond the drain, which the server bounds itself.
const closeGraceMs = 5000
const bufferPoolBytes = 256 * 1024
/** V8 compiles a function after an eighth of the usual work: who starts a server has clients at the doors, and a connect runs through much code once. */
const compileSooner = '--interrupt-budget=8000'

async function start({ printConfig }: { printConfig?: true }): Promise<void> {
  const config = readConfig(process.env)
  if (printConfig) {
    process.stdout.write(`${describeConfig(config)}\n`)
    return
  }
  const secret = secretOf(config)
  endOnFault()
  // Each message takes several small buffers; they are cut from pools of this size.
  Buffer.poolSize = bufferPoolBytes
  // Loaded here, so that the other commands do not wait for it.
  const { createServer } = await import('./server.js')
  const starting = createServer(config)
  const close = async () => (await starting).close()
  stopOnSignal(process, close, config.drainMs + closeGraceMs, fail)
  const server = await starting
  // Not before: what a start runs it runs once.
  setFlagsFromString(compileSooner)
  if (secret?.generated && isLoopback(config.host)) await server.ensureUsers(demoUsers)
  // Without TLS the signal keeps its usual meaning.
  if (config.tlsCert !== undefined) process.on('SIGHUP', () => server.reloadCertificate())
  const { mqttPort, mqttsPort, httpPort } = server
  process.stdout.write(await createBanner({ config, mqttPort, mqttsPort, httpPort, secret: secret?.secret, command: ownCommand() }))
}

/** The HS256 secret; undefined when tokens are verified by a key of their issuer. */
function secretOf(config: Config): { secret: string; generated: boolean; path?: string; created?: boolean } | undefined {
  if (config.jwtPublicKey !== undefined || config.jwksUrl !== undefined) return undefined
  if (config.jwtSecret !== undefined) return { secret: config.jwtSecret, generated: false }
  return { ...loadSecret(config.dataDir), generated: true }
}

interface TokenOptions {
  ttl: number
  scope?: 'admin'
  dataDir?: string
  json?: true
}

async function token(user: string, { ttl, scope, dataDir, json }: TokenOptions): Promise<void> {
  if (!isId(user)) throw new OperatorError(`"${user}" is not a user id: it must be ${idRule}.`)
  const config = readConfig(process.env, dataDir === undefined ? {} : { dataDir })
  const secret = secretOf(config)
  if (secret === undefined) {
    const source = config.jwksUrl === undefined ? 'PARLEY_JWT_PUBLIC_KEY' : 'PARLEY_JWKS_URL'
    throw new OperatorError(`Tokens come from your issuer, as ${source} is set: Parley has no key to sign one with.`)
  }
  if (secret.created) process.stderr.write(`There was no secret yet: made ${secret.path}\n`)
  const expires_ts = Date.now() + ttl * 1000
  const minted = await mintToken({
    secret: secret.secret,
    user,
    expiresInSeconds: ttl,
    scope,
    issuer: config.jwtIssuer,
    audience: config.jwtAudience,
  })
  process.stdout.write(json ? `${JSON.stringify({ user, token: minted, expires_ts })}\n` : `${minted}\n`)
}

/** The database stands in the same setting as a node's, which would need Redis too. */
async function migrate({ media }: { media: boolean }): Promise<void> {
  const { PARLEY_MONGODB_URL: mongodbUrl = '', PARLEY_REDIS_URL: _redis, ...env } = process.env
  const config = readConfig(env)
  if (mongodbUrl === '')
    throw new OperatorError('PARLEY_MONGODB_URL is not set: it names the database that the data directory is copied into.')
  const { migrate: run } = await import('./migrate/migrate.js')
  const { moves } = await import('../plugins/index.js')
  await run({ config, mongodbUrl, moves: media ? moves : [], print: (line) => void process.stdout.write(`${line}\n`) })
}

async function compact(): Promise<void> {
  const { dataDir } = readConfig(process.env)
  const { compactLmdbStore } = await import('./store/lmdb/lmdb-store.js')
  const { bytesBefore, bytes } = await compactLmdbStore(dataDir)
  process.stdout.write(`The data file in ${dataDir} has ${bytes} bytes, ${bytesBefore} before.\n`)
}

function parseTtl(text: string): number {
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const seconds = Number(count) * (secondsOf[unit] ?? Number.NaN)
  if (seconds >= 1 && seconds <= ttlSecondsMax) return seconds
  throw new InvalidArgumentError('It must be a time such as 90s, 15m, 24h or 7d, at most 3650d.')
}

/** As the operator can type it again from the same folder. */
function ownCommand(): string {
  const script = process.argv[1] ?? ''
  if (basename(script) !== 'parley') return `node ${relative(process.cwd(), script)}`
  return script.includes('node_modules') ? 'npx parley' : 'parley'
}

function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  const program = new Command('parley').description('An instant messaging server that any MQTT client can speak to.').version(version)
  program.exitOverride().configureHelp({ subcommandTerm: (command) => `${command.name()} ${command.usage()}`.trim() })
  program.addHelpText('after', '\nSettings are environment variables; docs/configuration.md lists them.')
  program
    .command('start', { isDefault: true })
    .description('run the server')
    .option('--print-config', 'print the effective settings, secrets hidden, and exit')
    // A word that is no command comes here, as this is the default.
    .argument('[word]')
    .usage('[options]')
    .action((word: string | undefined, options: { printConfig?: true }) => {
      if (word === undefined) return start(options)
      const commands = program.commands.map((each) => each.name())
      const near = nearMiss(word, commands)
      throw new OperatorError(
        `parley has no command "${word}"${near === undefined ? '.' : `; did you mean ${near}?`} The commands are ${commands.join(', ')}; parley --help explains them.`,
      )
    })
  program
    .command('token')
    .description('print a token with which a user can connect')
    .argument('<user>', 'the user id')
    .addOption(new Option('--ttl <time>', 'how long it is good for').argParser(parseTtl).default(secondsOf.d, '24h'))
    .addOption(new Option('--scope <scope>', 'what it is for besides chat').choices(['admin']))
    .option('--data-dir <path>', 'where the generated secret is, in place of PARLEY_DATA_DIR')
    .option('--json', 'print {"user", "token", "expires_ts"} instead of the bare token')
    .action(token)
  program
    .command('migrate')
    .description('copy the embedded store in PARLEY_DATA_DIR into the database of PARLEY_MONGODB_URL; goes on where it was cut off')
    .option('--no-media', 'leave pictures, voice messages and files behind')
    .action(migrate)
  program
    .command('compact')
    .description('write the data file in PARLEY_DATA_DIR anew, without what is not used any more; no server may run on it')
    .action(compact)
  program
    .command('prove')
    .description('run the fault audit on a server of its own with your settings; exit code 1 when a promise was broken')
    .option('--minutes <n>', 'how long people talk and faults are done', '2')
    .option('--seed <n>', 'of the schedule; repeats the faults of another run')
    .option('--faults <list>', 'all, none, or a comma list of kinds; a minus takes one out: all,-disk', 'all')
    .option('--users <n>', 'virtual users; groups have up to 500 of them', '500')
    .option('--rate <n>', 'messages a second', '300')
    .option('--nodes <n>', '1: the embedded store; more: a cluster on a Redis and a store of its own', '1')
    .option('--settle <seconds>', 'after healing everybody must have everything by then', '30')
    .option('--keep <folder>', 'keep the history there')
    .option('--html <file>', 'write the report as a page')
    .option('--json <file>', 'write the verdict as JSON; - is standard output')
    .option('--judge <history>', 'judge a kept history again instead of running')
    .addHelpText('after', '\ndocs/prove.md says which kinds of faults there are, and how to read the verdict.')
    .action(async (options: RawProveOptions) => {
      await (await import('../audit/main.js')).prove(options)
      // Left to end by itself, Node 20 has waited here for ever for requests on sockets that faults had cut.
      process.exit()
    })
  return program
}

/** What the operator can mend is told without a stack trace. */
function fail(error: unknown): never {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2)
  const report = operatorReport(error)
  process.stderr.write(`${report ?? (error instanceof Error ? error.stack : String(error))}\n`)
  process.exit(report === undefined ? 1 : 2)
}

function operatorReport(error: unknown): string | undefined {
  if (error instanceof OperatorError) return error.message
  const { code, syscall, address, port, hostname } = error as NodeJS.ErrnoException & { address?: string; port?: number; hostname?: string }
  if (syscall === 'getaddrinfo') return `PARLEY_HOST is "${hostname}", for which no address can be found: ${code}.`
  if (syscall !== 'listen') return undefined
  const why = {
    EADDRINUSE: 'another program uses it',
    EACCES: 'this user may not use it',
    EADDRNOTAVAIL: 'this machine has no such address',
  }
  return `Cannot listen on ${address}${port === undefined ? '' : ` port ${port}`}: ${why[code as keyof typeof why] ?? code}. Change PARLEY_HOST, PARLEY_MQTT_PORT, PARLEY_MQTTS_PORT or PARLEY_HTTP_PORT.`
}

createProgram().parseAsync().catch(fail)
