/**
 * What PARLEY_REDIS_URL says: one server, a Sentinel's master or a Redis Cluster, with ACL user and TLS. Whatever is wrong is
 * told in a phrase that never repeats user or password. Read by the configuration, so that a wrong URL is a fault at start.
 */
import { readFileSync } from 'node:fs'

export interface RedisHost {
  host: string
  port: number
}

interface RedisLogin {
  username?: string
  password?: string
}

export interface RedisAddress extends RedisLogin {
  kind: 'server' | 'sentinel' | 'cluster'
  /** Of the server, the Sentinels, or some nodes of the cluster. */
  hosts: RedisHost[]
  db: number
  /** undefined: no TLS. Without `ca` the authorities that Node knows are trusted. */
  tls?: { ca?: string }
  /** The name under which Sentinel knows the master. */
  master: string
  /** Of the Sentinels, where it is not the one of the servers. */
  sentinelLogin: RedisLogin
}

const kinds = { redis: 'server', rediss: 'server', 'redis-sentinel': 'sentinel', 'redis-cluster': 'cluster' } as const
const options = {
  server: ['ca'],
  sentinel: ['ca', 'tls', 'db', 'sentinelUsername', 'sentinelPassword'],
  cluster: ['ca', 'tls'],
} as const
const portDefault = { server: 6379, sentinel: 26_379, cluster: 6379 } as const
const hostsMax = 100

export const redisUrlRule =
  'redis://[user:password@]host[:port][/db], rediss:// for TLS, redis-sentinel://host:port,…/master or redis-cluster://host:port,…, together with PARLEY_MONGODB_URL'

/** Throws an Error with a phrase of what is wrong. */
export function parseRedisUrl(url: string): RedisAddress {
  const [, scheme = '', login = '', hosts = '', path = '', query = ''] =
    /^([a-z-]+):\/\/(?:([^@]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url) ?? []
  if (!Object.hasOwn(kinds, scheme)) throw new Error(`it must begin with ${Object.keys(kinds).join('://, ')}://`)
  const kind = kinds[scheme as keyof typeof kinds]
  const asked = new URLSearchParams(query)
  for (const name of asked.keys()) {
    if (!(options[kind] as readonly string[]).includes(name)) {
      throw new Error(`a ${scheme} URL has no option "${name}", only ${options[kind].join(', ')}`)
    }
  }
  const address: RedisAddress = {
    kind,
    hosts: parseHosts(hosts, kind),
    ...parseLogin(login),
    db: 0,
    master: '',
    sentinelLogin: {},
  }
  if (kind === 'server') address.db = parseDb(path)
  else if (kind === 'sentinel') {
    if (path === '') throw new Error('the path must name the master: redis-sentinel://host:port/name')
    address.master = decode(path, 'the name of the master')
    address.db = parseDb(asked.get('db') ?? '')
    address.sentinelLogin = withoutEmpty(asked.get('sentinelUsername') ?? '', asked.get('sentinelPassword') ?? '')
  } else if (path !== '') throw new Error('a Redis Cluster has no databases: leave out the path')
  const tls = asked.get('tls') ?? String(scheme === 'rediss' || asked.has('ca'))
  if (tls !== 'true' && tls !== 'false') throw new Error('tls must be true or false')
  if (tls === 'true' && scheme !== 'redis') address.tls = readAuthorities(asked.get('ca'))
  else if (asked.has('ca')) throw new Error('ca is of use with TLS only: begin with rediss://, or set tls=true')
  return address
}

/** What is wrong with it; for the table of settings. */
export function faultsOfRedisUrl(url: string): string[] {
  try {
    parseRedisUrl(url)
    return []
  } catch (error) {
    return [(error as Error).message]
  }
}

function parseHosts(text: string, kind: RedisAddress['kind']): RedisHost[] {
  const hosts = text.split(',').map((host) => {
    const [, name, six, port] = /^(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::(\d{1,5}))?$/.exec(host) ?? []
    const number = Number(port ?? portDefault[kind])
    if ((name ?? six) === undefined || number < 1 || number > 65_535) {
      // A password with an @ or a slash in it may have ended up here.
      throw new Error('host and port are not understood; in user and password, @ : / ? # and % are written as %40 %3A %2F %3F %23 and %25')
    }
    return { host: name ?? six ?? '', port: number }
  })
  if (kind === 'server' && hosts.length > 1) throw new Error('it has several hosts: use redis-sentinel:// or redis-cluster://')
  if (hosts.length > hostsMax) throw new Error(`it has ${hosts.length} hosts, at most ${hostsMax}`)
  return hosts
}

function parseLogin(text: string): RedisLogin {
  const at = text.indexOf(':')
  const [user, password] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
  if (user !== '' && password === '') throw new Error('it has a user without a password; a password alone is written as :password@')
  return withoutEmpty(decode(user, 'the user'), decode(password, 'the password'))
}

const withoutEmpty = (username: string, password: string): RedisLogin => ({
  ...(username === '' ? {} : { username }),
  ...(password === '' ? {} : { password }),
})

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error(`${what} has a % that is not followed by two digits; a % itself is written as %25`)
  }
}

function parseDb(text: string): number {
  if (text === '') return 0
  if (!/^\d{1,5}$/.test(text)) throw new Error('the database must be a number')
  return Number(text)
}

function readAuthorities(path: string | null): { ca?: string } {
  if (path === null) return {}
  try {
    return { ca: readFileSync(path, 'utf8') }
  } catch (error) {
    throw new Error(`the file of ca cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}
