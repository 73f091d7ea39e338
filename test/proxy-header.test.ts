/** The PROXY header at the level of bytes, the ranges of trusted proxies, and X-Forwarded-For. */
import t from 'tap'
import { ConfigError, readConfig } from '../broker/config.js'
import { ProxyHeaderError, proxyHeaderBytesMax, readProxyHeader } from '../broker/proxy-header.js'
import { TrustedProxies } from '../broker/trusted-proxies.js'
import { bytes, hex } from './helper/packets.js'
import { binaryHeader, textHeader } from './helper/proxy-headers.js'
import { seeded } from './helper/stage.js'

const ipv6 = hex('20010db8 00000000 00000000 00000001')

const right: Record<string, [header: Buffer, address: string | undefined]> = {
  'text, IPv4': [textHeader('203.0.113.7'), '203.0.113.7'],
  'text, IPv6': [textHeader('2001:db8::1'), '2001:db8::1'],
  'text, the longest': [
    Buffer.from('PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n'),
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
  ],
  'text, unknown': [Buffer.from('PROXY UNKNOWN\r\n'), undefined],
  'text, unknown with addresses': [Buffer.from('PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n'), undefined],
  'binary, IPv4': [binaryHeader(), '203.0.113.7'],
  'binary, IPv6': [binaryHeader({ familyAndKind: 0x21, source: ipv6 }), '2001:db8::1'],
  'binary, with extensions': [binaryHeader({ more: bytes(hex('20 00 03'), 'abc') }), '203.0.113.7'],
  'binary, the longest': [binaryHeader({ more: Buffer.alloc(proxyHeaderBytesMax - 28) }), '203.0.113.7'],
  'binary, the proxy itself': [binaryHeader({ command: 0x20, familyAndKind: 0, source: Buffer.alloc(0) }), undefined],
  'binary, a UNIX socket': [binaryHeader({ familyAndKind: 0x31, source: Buffer.alloc(108) }), undefined],
  'binary, UDP': [binaryHeader({ familyAndKind: 0x12 }), undefined],
}

const wrong: Record<string, Buffer> = {
  'an MQTT CONNECT': hex('10 10 00 04 4d 51 54 54 04 02 00 3c 00 04 61 62 63 64'),
  'a ClientHello': hex('16 03 01 02 00'),
  'lower case': Buffer.from('proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n'),
  'a tab': Buffer.from('PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n'),
  'two spaces': Buffer.from('PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n'),
  'no port': Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n'),
  'a high port': Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n'),
  'the other family': Buffer.from('PROXY TCP4 ::1 ::1 1 2\r\n'),
  'no address': Buffer.from('PROXY TCP4 999.2.3.4 1.2.3.4 1 2\r\n'),
  'a name for an address': Buffer.from('PROXY TCP4 localhost 1.2.3.4 1 2\r\n'),
  'a line that does not end': Buffer.from(`PROXY UNKNOWN ${'x'.repeat(200)}`),
  'an end in the text': Buffer.from('PROXY TCP4 1.2.3.4\n 1.2.3.4 1 2\r\n'),
  'a family that is unknown': Buffer.from('PROXY UNKNOWNS\r\n'),
  'version 3': binaryHeader({ command: 0x31 }),
  'command 2': binaryHeader({ command: 0x22 }),
  'too few bytes for addresses': binaryHeader({ source: Buffer.of(1) }),
  'too long': binaryHeader({ more: Buffer.alloc(proxyHeaderBytesMax) }),
  'another signature': bytes(hex('0d 0a 0d 0a 00 0d 0a 51 55 49 54 0b'), Buffer.alloc(20)),
}

t.test('right headers, cut at every byte, with what follows left alone', async (t) => {
  const follower = hex('10 0c 00 04')
  for (const [what, [header, address]] of Object.entries(right)) {
    for (let at = 0; at < header.length; at++) {
      if (readProxyHeader(header.subarray(0, at)) !== undefined) t.fail(`${what}: complete after ${at} of ${header.length} bytes`)
    }
    t.same(readProxyHeader(header), { bytes: header.length, address }, what)
    t.same(readProxyHeader(bytes(header, follower)), { bytes: header.length, address }, `${what}, and a packet`)
    t.same(readProxyHeader(bytes(header, header)), { bytes: header.length, address }, `${what}, twice`)
  }
})

t.test('wrong headers are seen, and at the latest with their last byte', async (t) => {
  for (const [what, header] of Object.entries(wrong)) t.throws(() => readProxyHeader(header), ProxyHeaderError, what)
  t.throws(() => readProxyHeader(Buffer.of(0x10)), ProxyHeaderError, 'the first byte of a CONNECT')
  t.throws(() => readProxyHeader(Buffer.from('PROXX')), ProxyHeaderError, 'the first byte that differs')
})

t.test('mutated headers: an answer or a ProxyHeaderError, never more bytes than there are', async (t) => {
  const random = seeded(t)
  const seeds = Object.values(right).map(([header]) => header)
  for (let round = 0; round < 50_000; round++) {
    const header = Buffer.from(seeds[random.below(seeds.length)] as Buffer)
    for (let change = random.below(4); change >= 0; change--) header[random.below(Math.min(header.length, 120))] = random.below(256)
    const cut = header.subarray(0, random.below(header.length + 1))
    try {
      const read = readProxyHeader(cut)
      if (read !== undefined && (read.bytes > cut.length || read.bytes < 15)) t.fail(`${cut.toString('hex')}: ${JSON.stringify(read)}`)
    } catch (error) {
      if (!(error instanceof ProxyHeaderError)) throw error
    }
  }
})

t.test('ranges of trusted proxies', async (t) => {
  const proxies = new TrustedProxies(['10.0.0.0/8', '192.0.2.1', '2001:db8::/32', '::1'])
  for (const address of ['10.9.8.7', '::ffff:10.9.8.7', '192.0.2.1', '2001:db8:1::', '::1']) t.ok(proxies.has(address), address)
  for (const address of ['11.0.0.1', '192.0.2.2', '2001:db9::', '::2', '', 'localhost', '::ffff:11.0.0.1'])
    t.notOk(proxies.has(address), address)
  t.notOk(new TrustedProxies([]).has('127.0.0.1'), 'nobody is, where none is listed')
  t.ok(new TrustedProxies(['0.0.0.0/0']).has('8.8.8.8'))
})

t.test('the client of X-Forwarded-For is the last address that no trusted proxy has', async (t) => {
  const proxies = new TrustedProxies(['10.0.0.0/8'])
  const client = (peer: string, header?: string): string => proxies.clientOf(peer, header)
  t.equal(client('10.0.0.1', '203.0.113.7'), '203.0.113.7')
  t.equal(client('::ffff:10.0.0.1', '203.0.113.7'), '203.0.113.7')
  t.equal(client('10.0.0.1', '1.1.1.1, 203.0.113.7, 10.0.0.2'), '203.0.113.7', 'what the client wrote itself is not read')
  t.equal(client('10.0.0.1', ' 2001:db8::9 '), '2001:db8::9')
  t.equal(client('10.0.0.1'), '10.0.0.1')
  t.equal(client('10.0.0.1', '203.0.113.7, rubbish'), '10.0.0.1')
  t.equal(client('10.0.0.1', 'rubbish, 10.0.0.2'), '10.0.0.2')
  t.equal(client('198.51.100.1', '203.0.113.7'), '198.51.100.1', 'a stranger is not believed')
  t.equal(client('10.0.0.1', `${'10.0.0.2,'.repeat(10_000)}10.0.0.2`), '10.0.0.2')
})

t.test('the setting: wrong ranges are told all at once', async (t) => {
  const read = (text: string): readonly string[] => readConfig({ PARLEY_TRUSTED_PROXIES: text }).trustedProxies
  t.same(read(''), [])
  t.same(read('10.0.0.0/8, ::1'), ['10.0.0.0/8', '::1'])
  for (const range of ['10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8', 'nginx', '10.0.0', '1.2.3.4:80']) {
    t.throws(() => read(range), ConfigError, range)
  }
  t.throws(() => read('10.0.0.0/33,nginx'), { message: /PARLEY_TRUSTED_PROXIES is .*\/33" must end.*\n.*"nginx" is not/ })
})
