/** Certificates: what is wrong with a file is a fault at start, and a new one is taken without a restart, or not at all. */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect, createServer, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { Certificate } from '../broker/certificate.js'
import { ConfigError, createServer as createParley } from '../broker/index.js'
import { createLogger } from '../broker/logger.js'
import { faultsOfTls } from '../broker/tls-options.js'
import { makeCertificate, writeCertificate } from '../loadtest/peers/certificate.js'
import { eventually } from './helper/eventually.js'
import { type SecureServer, startSecure } from './helper/secure-server.js'
import { ServerProcess } from './helper/server-process.js'

const host = '127.0.0.1'

/** The common name of the certificate that a server shows. */
async function nameAt(port: number): Promise<string> {
  const socket: TLSSocket = connect({ port, host, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return String(subject.CN)
}

const namesOf = (s: SecureServer): Promise<string[]> => Promise.all([s.mqttsPort, s.server.httpPort].map(nameAt))

t.test('each wrong file is told in words, both at once', async (t) => {
  const [made, other] = [makeCertificate(), makeCertificate()]
  const locked = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'hunter2' },
  }).privateKey
  const dir = t.testdir({
    cert: made.cert,
    key: made.key,
    otherKey: other.key,
    locked,
    empty: '',
    broken: made.cert.replace(/M/, '!').slice(0, 200),
  })
  const at = (name: string): string => join(dir, name)
  t.same(faultsOfTls(undefined, undefined), [])
  t.same(faultsOfTls(at('cert'), at('key')), [])
  const wrong: [string | undefined, string | undefined, RegExp[]][] = [
    [at('cert'), undefined, [/PARLEY_TLS_CERT is set without PARLEY_TLS_KEY/]],
    [undefined, at('key'), [/PARLEY_TLS_KEY is set without PARLEY_TLS_CERT/]],
    [at('none'), at('none'), [/^PARLEY_TLS_CERT is ".*none": the file cannot be read \(ENOENT\)/, /^PARLEY_TLS_KEY is .*ENOENT/]],
    [dir, at('key'), [/EISDIR/]],
    [at('key'), at('cert'), [/no certificate in PEM form/, /no private key in PEM form/]],
    [at('empty'), at('empty'), [/no certificate/, /no private key/]],
    [at('broken'), at('key'), [/its certificate cannot be read/]],
    [at('cert'), at('otherKey'), [/the key is not that of the first certificate/]],
    [at('cert'), at('locked'), [/the key has a passphrase/]],
  ]
  for (const [cert, key, faults] of wrong) t.match(faultsOfTls(cert, key), faults)
  const error = await createParley({ dataDir: at('data'), tlsCert: at('cert'), tlsKey: at('otherKey'), window: 0 }).catch(
    (error: unknown) => error,
  )
  t.ok(error instanceof ConfigError)
  t.match((error as ConfigError).faults, [/PARLEY_WINDOW/, /the key is not that/])
})

t.test('on reload new connections get the new certificate, and open ones stay', async (t) => {
  const s = await startSecure(t)
  const phone = await s.client(`mqtts://${host}:${s.mqttsPort}`, 'ann', 'phone')
  t.same(await namesOf(s), ['parley test', 'parley test'])
  await s.replace(makeCertificate({ name: 'renewed' }))
  s.server.reloadCertificate()
  t.same(await namesOf(s), ['renewed', 'renewed'])
  t.ok(s.log.some(({ msg, subject }) => msg === 'TLS certificate in use' && subject === 'CN=renewed'))
  await phone.publishAsync('u/ann/msg', 'still here', { qos: 1 })
  for (const wrong of [{ key: makeCertificate().key }, { cert: 'rubbish' }]) {
    await s.replace(wrong)
    s.server.reloadCertificate()
    t.match(s.logged('error').at(-1), { msg: /cannot be used; the old one stays/, faults: [/PARLEY_TLS_/] })
    t.same(await namesOf(s), ['renewed', 'renewed'])
  }
  await phone.endAsync()
})

async function serveCertificate(t: Test): Promise<{ dir: string; port: number; lines: { level: string; msg: string }[] }> {
  const dir = t.testdir()
  const { certFile, keyFile } = await writeCertificate(dir, makeCertificate({ name: 'first' }))
  const lines: { level: string; msg: string }[] = []
  const logger = createLogger('debug', { write: (line: string) => void lines.push(JSON.parse(line)) })
  const certificate = new Certificate({ cert: certFile, key: keyFile }, logger, 10)
  const server = certificate.serve(createServer({ ...certificate.options }))
  server.listen(0, host)
  await once(server, 'listening')
  t.teardown(() => {
    certificate.stop()
    server.close()
  })
  return { dir, port: (server.address() as { port: number }).port, lines }
}

const becomes = (port: number, name: string): Promise<unknown> =>
  eventually(async () => (await nameAt(port)) === name, { what: `it is ${name}` })

t.test('changed files are noticed, one after the other or by a link', async (t) => {
  const { dir, port, lines } = await serveCertificate(t)
  const second = makeCertificate({ name: 'second' })
  writeFileSync(join(dir, 'tls-cert.pem'), second.cert)
  await eventually(() => lines.some(({ level }) => level === 'error'))
  t.equal(await nameAt(port), 'first', 'half of a pair is not taken')
  writeFileSync(join(dir, 'tls-key.pem'), second.key)
  await becomes(port, 'second')
  const third = makeCertificate({ name: 'third' })
  for (const [kind, pem] of Object.entries(third)) {
    writeFileSync(join(dir, `new-${kind}`), pem)
    symlinkSync(`new-${kind}`, join(dir, `link-${kind}`))
    renameSync(join(dir, `link-${kind}`), join(dir, `tls-${kind}.pem`))
  }
  await becomes(port, 'third')
  const before = lines.length
  rmSync(join(dir, 'tls-key.pem'))
  await eventually(() => lines.length > before)
  await new Promise((resolve) => setTimeout(resolve, 60))
  t.equal(lines.length, before + 1, 'it is said once')
  t.equal(await nameAt(port), 'third')
})

t.test('one that has expired is used, with a warning', async (t) => {
  const dir = t.testdir()
  const past = { notBefore: new Date(Date.now() - 2_000_000_000), notAfter: new Date(Date.now() - 1_000_000_000) }
  const { certFile, keyFile } = await writeCertificate(dir, makeCertificate(past))
  const lines: string[] = []
  new Certificate({ cert: certFile, key: keyFile }, createLogger('info', { write: (line: string) => void lines.push(line) })).stop()
  t.match(lines, [/"level":"warn".*has expired: clients will refuse it/])
})

t.test('SIGHUP reads the files again', async (t) => {
  const folder = t.testdir()
  const { certFile, keyFile } = await writeCertificate(folder, makeCertificate({ name: 'before' }))
  const server = await new ServerProcess(t, join(folder, 'data'), {
    PARLEY_TLS_CERT: certFile,
    PARLEY_TLS_KEY: keyFile,
    PARLEY_MQTTS_PORT: '0',
  }).start()
  t.equal(await nameAt(server.httpPort), 'before')
  await writeCertificate(folder, makeCertificate({ name: 'after' }))
  server.signal('SIGHUP')
  await becomes(server.httpPort, 'after')
  t.match(await server.stop(), { code: 0 })
})
