/** Media: uploaded, sent, seen by who may, and gone when nobody may; with files beside the store, with a bucket, and on the nodes of a cluster. */
import { statSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { filesOf } from '../helper/files-of.js'
import { announces, beginsPut, fileOf, looks, puts, uploads } from '../helper/media.js'
import { incoming, later, mediaDirOf, onBoth, onTwoNodes, sweeps } from '../helper/media-places.js'
import { openBucket } from '../helper/s3-server.js'
import { type Actor, type Json, type Stage, stage } from '../helper/stage.js'

t.setTimeout(120_000)

onBoth('alice sends a voice message, bob plays it, mallory does not', async (t, { s, kept }) => {
  const [alice, bob] = await s.cast(['alice', 'bob', 'mallory'])
  const sound = fileOf('audio/ogg', 200_000)
  const { upload_url, url } = await alice.calls<{ upload_url: string; url: string }>('media.upload', {
    mime: 'audio/ogg; codecs=opus',
    size: sound.length,
    name: 'höre "das".ogg',
  })
  t.equal((await looks(s, 'alice', url)).status, 404, 'nothing is there yet')
  t.match(await puts(s, upload_url, sound), { status: 201, body: { url, mime: 'audio/ogg', size: sound.length } })
  t.equal((await looks(s, 'bob', url)).status, 403, 'it was not sent yet')
  await alice.sends('u/bob', { type: 'voice', body: { url, mime: 'audio/ogg;codecs=opus', size: sound.length, duration_ms: 1200 } })
  await bob.receives({ seq: 1, type: 'voice' })

  const whole = await looks(s, 'bob', url)
  t.equal(whole.status, 200)
  t.ok(whole.bytes.equals(sound))
  t.match(Object.fromEntries(whole.headers), {
    'content-type': 'audio/ogg',
    'content-length': '200000',
    'accept-ranges': 'bytes',
    'x-content-type-options': 'nosniff',
    'cache-control': /^private, .*immutable/,
    'content-disposition': "inline; filename*=UTF-8''h%C3%B6re%20%22das%22.ogg",
  })
  const etag = whole.headers.get('etag') as string
  const ranges: [string, number, number][] = [
    ['bytes=0-99', 0, 100],
    ['bytes=100000-', 100_000, 200_000],
    ['bytes=-5', 199_995, 200_000],
    ['bytes=199999-999999', 199_999, 200_000],
    ['bytes=-999999', 0, 200_000],
  ]
  for (const [range, from, to] of ranges) {
    const part = await looks(s, 'bob', url, { range, 'if-range': etag })
    t.equal(part.status, 206, range)
    t.equal(part.headers.get('content-range'), `bytes ${from}-${to - 1}/200000`)
    t.ok(part.bytes.equals(sound.subarray(from, to)))
  }
  for (const range of ['bytes=200000-', 'bytes=-0']) {
    const outside = await looks(s, 'bob', url, { range })
    t.same([outside.status, outside.headers.get('content-range')], [416, 'bytes */200000'])
  }
  t.equal((await looks(s, 'bob', url, { range: 'bytes=0-9', 'if-range': '"another"' })).status, 200)
  t.equal((await looks(s, 'bob', url, { range: 'bytes=5-2' })).status, 200, 'what is no range is the whole')
  t.equal((await looks(s, 'bob', url, { 'if-none-match': etag })).status, 304)
  const head = await looks(s, 'bob', url, {}, 'HEAD')
  t.same([head.status, head.headers.get('content-length'), head.bytes.length], [200, '200000', 0])

  t.equal((await looks(s, 'mallory', url)).status, 403)
  t.equal((await looks(s, undefined, url)).status, 401)
  t.equal((await looks(s, 'bob', '/v1/media/AAAAAAAAAAAAAAAAAAAAAA')).status, 404)
  t.equal(kept(), 1)
})

onBoth('a link is good without a token, for an hour and one object, until the right has gone', async (t, { s }) => {
  const [alice, bob, mallory] = await s.cast(['alice', 'bob', 'mallory'])
  const image = await uploads(s, 'alice', 'image/png')
  const other = await uploads(s, 'alice', 'image/png')
  const { seq } = await alice.sends('u/bob', { type: 'image', body: { ...image, width: 1, height: 1 } })
  await mallory.callsInVain('media.link', { url: image.url }, 'forbidden')
  await bob.callsInVain('media.link', { url: 'https://example.org/a.png' }, 'invalid')
  const { url } = await bob.calls<{ url: string }>('media.link', { url: image.url })
  t.equal((await looks(s, undefined, url)).status, 200)
  t.equal((await looks(s, undefined, url.replace(image.url, other.url))).status, 403, 'not of another object')
  const [path = '', grant = ''] = url.split('?view=')
  const [claims = '', ...rest] = grant.split('.')
  const forged = { ...(JSON.parse(Buffer.from(claims, 'base64url').toString()) as Json), user: 'alice' }
  const forgeries = [
    [Buffer.from(JSON.stringify(forged)).toString('base64url'), ...rest].join('.'),
    `${claims}.${'A'.repeat(43)}.${rest[1]}`,
    `${claims}.${rest[0]}.node-9`,
    `${claims}`,
    '',
  ]
  for (const forgery of forgeries) t.equal((await looks(s, undefined, `${path}?view=${forgery}`)).status, 403, forgery)
  t.equal((await puts(s, `${path}?upload=${grant}`, fileOf('image/png'))).status, 403, 'a link is not for uploading')
  await later(2 * 3_600_000, async () => t.equal((await looks(s, undefined, url)).status, 403, 'it expires'))
  await s.restart()
  t.equal((await looks(s, undefined, url)).status, 200, 'a restart changes nothing')
  await alice.returns()
  await alice.sends('u/bob', { type: 'recall', body: { seq } })
  t.equal((await looks(s, undefined, url)).status, 403, 'recalled')
})

onBoth('in a group those see it who were there', async (t, { s }) => {
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  await s.cast(['dave'])
  await alice.calls('group.create', { group: 'team', members: ['bob', 'carol'] })
  const first = await uploads(s, 'alice', 'image/png')
  await alice.sends('g/team', { type: 'image', body: { ...first, width: 1, height: 1 } })
  await alice.calls('group.remove', { group: 'team', users: ['carol'] })
  await alice.calls('group.add', { group: 'team', users: ['dave'] })
  const second = await uploads(s, 'bob', 'application/pdf')
  await bob.sends('g/team', { type: 'file', body: { ...second, name: 'a.pdf' } })
  const seen = async (url: string) => {
    const found: Record<string, number> = {}
    for (const user of ['alice', 'bob', 'carol', 'dave', 'eve']) found[user] = (await looks(s, user, url)).status
    return found
  }
  t.same(await seen(first.url), { alice: 200, bob: 200, carol: 200, dave: 403, eve: 403 })
  t.same(await seen(second.url), { alice: 200, bob: 200, carol: 403, dave: 200, eve: 403 })
  await carol.isRefused('g/team', { type: 'image', body: { ...first, width: 1, height: 1 } }, 'forbidden')
  await carol.sends('u/dave', { type: 'image', body: { ...first, width: 1, height: 1 } })
  t.equal((await looks(s, 'dave', first.url)).status, 200, 'who could see it has passed it on')
  await carol.isRefused('u/dave', { type: 'file', body: { ...second, name: 'a.pdf' } }, 'forbidden')
  t.equal((await looks(s, 'carol', second.url)).status, 403, 'sending it does not open it')
})

onBoth(
  'lies about type and size',
  async (t, { s, kept }) => {
    const [alice] = await s.cast(['alice', 'bob'])
    const announced = async (mime: string, bytes: Buffer, size = bytes.length) =>
      puts(s, (await announces(s, 'alice', { mime, size })).upload_url, bytes)
    t.equal((await announced('image/png', fileOf('text/html', 50_000))).status, 415)
    t.equal((await announced('image/png', fileOf('image/jpeg', 10))).status, 415)
    t.equal((await announced('text/plain', Buffer.from('a\0b'))).status, 415)
    t.equal((await announced('image/png', fileOf('image/png', 1000), 999)).status, 413)
    t.equal((await announced('image/png', fileOf('image/png', 1000), 1001)).status, 400)
    t.equal(kept(), 0)
    await alice.callsInVain('media.upload', { mime: 'image/png', size: 2_000_001 }, 'too_large')
    await alice.callsInVain('media.upload', { mime: 'audio/ogg', size: 10, type: 'image' }, 'invalid')
    await alice.callsInVain('media.upload', { mime: 'image/svg+xml', size: 10, type: 'image' }, 'invalid')
    await alice.callsInVain('media.upload', { mime: 'video/mp4', size: 10 }, 'invalid')
    await alice.callsInVain('media.upload', { mime: 'png', size: 10 }, 'invalid')
    await alice.callsInVain('media.upload', { mime: 'image/png', size: 0 }, 'invalid')

    const image = await uploads(s, 'alice', 'image/png')
    const body = { ...image, width: 1, height: 1 }
    const ghost = '/v1/media/AAAAAAAAAAAAAAAAAAAAAA'
    await alice.isRefused('u/bob', { type: 'image', body: { ...body, mime: 'image/jpeg' } }, 'invalid')
    await alice.isRefused('u/bob', { type: 'image', body: { ...body, size: 1 } }, 'invalid')
    await alice.isRefused('u/bob', { type: 'image', body: { ...body, url: ghost } }, 'not_found')
    await alice.isRefused('u/bob', { type: 'image', body: { ...body, url: `/v1/media/${'x'.repeat(1500)}` } }, 'not_found')
    await alice.isRefused('u/bob', { type: 'image', body: { ...body, thumb: ghost } }, 'not_found')
    await alice.isRefused('u/bob', { type: 'voice', body: { ...image, duration_ms: 1 } }, 'invalid')
    await alice.sends('u/bob', { type: 'file', body: { ...image, name: 'a.png' } })
    for (const mime of ['text/html', 'image/svg+xml']) {
      const page = await uploads(s, 'alice', mime, fileOf(mime, 20))
      const seen = await looks(s, 'alice', page.url)
      t.match(Object.fromEntries(seen.headers), {
        'content-type': 'application/octet-stream',
        'content-disposition': 'attachment',
        'content-security-policy': /sandbox/,
      })
    }
  },
  { mediaImageBytesMax: 2_000_000, mediaTypes: ['image/*', 'audio/ogg', 'text/html', 'text/plain'] },
)

onBoth('an upload URL takes one upload, for ten minutes', async (t, { s, kept }) => {
  const bytes = fileOf('image/png')
  const { upload_url, url } = await announces(s, 'alice', { mime: 'image/png', size: bytes.length })
  t.equal((await puts(s, upload_url, fileOf('image/jpeg'))).status, 415, 'what failed may be tried again')
  t.equal((await puts(s, upload_url, bytes)).status, 201)
  t.match(await puts(s, upload_url, bytes), { status: 409, body: { error: { code: 'conflict' } } })
  t.equal((await puts(s, upload_url.replace(/upload=./, 'upload=X'), bytes)).status, 403)
  const late = await announces(s, 'alice', { mime: 'image/png', size: bytes.length })
  await later(11 * 60_000, async () => t.equal((await puts(s, late.upload_url, bytes)).status, 410))
  t.ok((await looks(s, 'alice', url)).bytes.equals(bytes))
  t.equal(kept(), 1)
})

/** Sends the head of a PUT and the first bytes. */
function begins(s: Stage, uploadUrl: string, size: number, bytes: Buffer) {
  const socket = connect(s.httpPort, '127.0.0.1')
  socket.on('error', () => socket.destroy())
  socket.write(`PUT ${uploadUrl} HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`)
  socket.write(bytes)
  return socket
}

onBoth('a connection that is cut in the middle leaves nothing, and the upload may be tried again', async (t, { s, kept }) => {
  const bytes = fileOf('image/png', 1_000_000)
  const { upload_url } = await announces(s, 'alice', { mime: 'image/png', size: bytes.length })
  const socket = begins(s, upload_url, bytes.length, bytes.subarray(0, 300_000))
  await eventually(() => incoming(s).some((path) => statSync(path).size > 0))
  t.equal((await puts(s, upload_url, bytes)).status, 409, 'while it is under way')
  socket.destroy()
  await eventually(() => incoming(s).length === 0)
  t.equal(kept(), 0)
  t.equal((await puts(s, upload_url, bytes)).status, 201)
})

onBoth(
  'an upload that stands still is cut off',
  async (t, { s }) => {
    const { upload_url } = await announces(s, 'alice', { mime: 'image/png', size: 1_000_000 })
    const socket = begins(s, upload_url, 1_000_000, fileOf('image/png', 100))
    await new Promise((resolve) => socket.once('close', resolve))
    await eventually(() => incoming(s).length === 0)
    t.pass('it was')
  },
  { slowClientMs: 200 },
)

onBoth('what nobody refers to goes, what was sent stays', async (t, { s, kept }) => {
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await uploads(s, 'alice', 'image/png')
  const sent = await uploads(s, 'alice', 'image/png')
  const recalled = await uploads(s, 'alice', 'image/png')
  await alice.sends('u/bob', { id: 'kept', type: 'image', body: { ...sent, width: 1, height: 1 } })
  const gone = { id: 'gone', type: 'image', body: { ...recalled, width: 1, height: 1 } }
  const { seq } = await alice.sends('u/bob', gone)
  await bob.isRefused('u/alice', { type: 'recall', body: { seq } }, 'forbidden')
  await sweeps(s, 1, 'the unsent one goes', () => kept() === 2)
  t.equal((await looks(s, 'bob', recalled.url)).status, 200, 'a recall that was refused recalls nothing')
  await alice.returns()
  await alice.sends('u/bob', { type: 'recall', body: { seq } })
  t.equal((await looks(s, 'bob', recalled.url)).status, 403)
  t.equal((await looks(s, 'alice', recalled.url)).status, 200, 'the uploader for now')
  await sweeps(s, 2, 'the recalled one goes', () => kept() === 1)
  t.equal((await looks(s, 'bob', sent.url)).status, 200)
  await alice.returns()
  t.match(await alice.sends('u/bob', gone), { seq, dup: true }, 'a resend is answered as ever')
})

onBoth('an edit shows another picture, and is recalled with its message', async (t, { s, kept }) => {
  const [alice, , carol] = await s.cast(['alice', 'bob', 'carol'])
  const before = await uploads(s, 'alice', 'image/png')
  const after = await uploads(s, 'alice', 'image/jpeg')
  const { seq } = await alice.sends('u/bob', { type: 'image', body: { ...before, width: 1, height: 1 } })
  await alice.isRefused('u/bob', { type: 'edit', body: { seq, body: { ...after, size: 5, width: 1, height: 1 } } }, 'invalid')
  await carol.isRefused('u/bob', { type: 'edit', body: { seq, body: { ...after, width: 1, height: 1 } } }, 'forbidden')
  await alice.sends('u/bob', { type: 'edit', body: { seq, body: { ...after, width: 2, height: 2 } } })
  t.equal((await looks(s, 'bob', after.url)).status, 200)
  await sweeps(s, 1, 'both are seen to be sent', () => kept() === 2)
  await alice.returns()
  await alice.sends('u/bob', { type: 'recall', body: { seq } })
  for (const { url } of [before, after]) t.equal((await looks(s, 'bob', url)).status, 403)
  await sweeps(s, 3, 'the bytes of both go', () => kept() === 0)
})

onBoth('what is sent behind a picture comes behind it', async (t, { s }) => {
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const image = await uploads(s, 'alice', 'image/png')
  const sends = [
    alice.sends('u/bob', { id: '1', type: 'image', body: { ...image, width: 1, height: 1 } }),
    alice.sends('u/bob', { id: '2', body: 'look' }),
    alice.isRefused('u/bob', { id: '3', type: 'image', body: { ...image, size: 1, width: 1, height: 1 } }, 'invalid'),
    alice.sends('u/bob', { id: '4', body: 'nice?' }),
  ]
  await Promise.all<unknown>(sends)
  for (const id of ['1', '2', '4']) await bob.receives({ id })
  t.pass('in that order')
})

t.test('a bucket that is away: nothing is kept, and the upload may be tried again', async (t) => {
  const bucket = await openBucket(t)
  const s = await stage(t, bucket.settings)
  const bytes = fileOf('image/png')
  const { upload_url, url } = await announces(s, 'alice', { mime: 'image/png', size: bytes.length })
  bucket.isDown = true
  t.match(await puts(s, upload_url, bytes), { status: 503, body: { error: { code: 'unavailable' } } })
  t.same([incoming(s), bucket.objects.size], [[], 0])
  bucket.isDown = false
  t.equal((await puts(s, upload_url, bytes)).status, 201)
  bucket.isDown = true
  t.equal((await looks(s, 'alice', url)).status, 503)
  t.equal((await looks(s, 'alice', url, {}, 'HEAD')).status, 200)
})

t.test('the same bytes are on disk once', async (t) => {
  const s = await stage(t)
  const [alice] = await s.cast(['alice', 'bob'])
  const bytes = fileOf('image/png')
  const first = await uploads(s, 'alice', 'image/png', bytes)
  const second = await uploads(s, 'bob', 'image/png', bytes)
  const inodes = () => new Set(filesOf(mediaDirOf(s), '/objects/').map((path) => statSync(path).ino)).size
  t.same([filesOf(mediaDirOf(s), '/objects/').length, inodes()], [2, 1])
  t.equal((await looks(s, 'alice', second.url)).status, 403, 'knowing the bytes opens nothing')
  await alice.sends('u/bob', { type: 'image', body: { ...first, width: 1, height: 1 } })
  await sweeps(s, 1, 'one of them goes', () => filesOf(mediaDirOf(s), '/objects/').length === 1)
  t.ok((await looks(s, 'bob', first.url)).bytes.equals(bytes), 'the other stays')
})

t.test('limits: bytes a day, foreign URLs, other pages', async (t) => {
  const s = await stage(t, {
    mediaDayBytesMax: 2500,
    mediaForeignUrls: 'refuse',
    publicUrl: 'https://chat.example.org',
    allowedOrigins: ['https://app.example.org'],
  })
  const [alice] = (await s.cast(['alice', 'bob'])) as [Actor, Actor]
  const own = await announces(s, 'alice', { mime: 'image/png', size: 1000 })
  t.match(own.url, /^https:\/\/chat\.example\.org\/v1\/media\//)
  await Promise.all([1, 2].map(() => alice.asks('media.upload', { mime: 'image/png', size: 1000 })))
  t.match(await alice.asks('media.upload', { mime: 'image/png', size: 1000 }), { error: { code: 'rate_limited', retry_after_ms: Number } })
  await later(24 * 3_600_000, () => alice.calls('media.upload', { mime: 'image/png', size: 1000 }))
  const foreign = { url: 'https://example.org/a.png', mime: 'image/png', size: 1, width: 1, height: 1 }
  await alice.isRefused('u/bob', { type: 'image', body: foreign }, 'invalid')

  const path = new URL(own.upload_url)
  const ask = (origin: string) =>
    fetch(`http://127.0.0.1:${s.httpPort}${path.pathname}`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'PUT' },
    })
  const allowed = await ask('https://app.example.org')
  t.same([allowed.status, allowed.headers.get('access-control-allow-origin')], [204, 'https://app.example.org'])
  t.match(allowed.headers.get('access-control-allow-methods'), /PUT/)
  t.equal((await ask('https://evil.example')).headers.get('access-control-allow-origin'), null)
})

onBoth('what an erased user uploaded is gone, for whoever it was sent to', async (t, { s, kept }) => {
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const body = await uploads(s, 'alice', 'application/pdf')
  await alice.sends('u/bob', { type: 'file', body: { ...body, name: 'a.pdf' } })
  await bob.receives({ seq: 1 })
  const own = await uploads(s, 'bob', 'application/pdf')
  await bob.sends('u/alice', { type: 'file', body: { ...own, name: 'b.pdf' } })
  t.equal((await looks(s, 'bob', body.url)).status, 200)
  t.match(
    (await s.exported('alice')).filter(({ kind }) => kind === 'media'),
    [{ mime: 'application/pdf', size: 1000 }],
  )
  await s.erases('alice')
  t.equal((await looks(s, 'bob', body.url)).status, 404)
  t.equal((await looks(s, 'bob', own.url)).status, 200, 'his own is still his')
  t.equal(kept(), 1)
})

onBoth(
  'what is too old to be kept goes with its pictures; a younger message keeps one that it shares',
  async (t, { s, kept }) => {
    const [alice] = await s.cast(['alice', 'bob'])
    const old = await uploads(s, 'alice', 'image/png')
    const shared = await uploads(s, 'alice', 'image/png')
    const edited = await uploads(s, 'alice', 'image/jpeg')
    for (const { url, mime, size } of [old, shared])
      await alice.sends('u/bob', { type: 'image', body: { url, mime, size, width: 1, height: 1 } })
    await alice.sends('u/bob', { type: 'edit', body: { seq: 1, body: { ...edited, width: 1, height: 1 } } })
    const isErased = async (): Promise<boolean> => (await looks(s, 'bob', old.url)).status === 403
    const days = (count: number): number => count * 86_400_000
    await later(days(6), async () => {
      await s.restart()
      await alice.returns()
      await alice.sends('u/bob', { type: 'image', body: { ...shared, width: 1, height: 1 } })
      t.equal((await looks(s, 'bob', old.url)).status, 200, 'not yet')
    })
    await later(days(8), () => s.restart())
    await eventually(isErased, { what: 'the message is erased', timeoutMs: 20_000 })
    t.equal((await looks(s, 'bob', edited.url)).status, 403, 'what an edit showed, too')
    t.equal((await looks(s, 'bob', shared.url)).status, 200)
    t.equal(kept(), 3, 'the bytes wait for messages that are under way')
    await sweeps(s, 10, 'the bytes go', () => kept() === 1)
    t.equal((await looks(s, 'alice', old.url)).status, 404)
    t.equal((await looks(s, 'bob', shared.url)).status, 200)
  },
  { retentionDays: 7 },
)

onTwoNodes('uploaded on one node, seen on the other by who may, in parts too', async (t, { a, b, kept }) => {
  const [alice, bob, carol] = [await a.actor('alice'), await b.actor('bob'), await b.actor('carol')]
  await b.actor('mallory')
  const sound = fileOf('audio/ogg', 300_000)
  const { upload_url, url } = await announces(a, 'alice', { mime: 'audio/ogg', size: sound.length })
  t.equal((await puts(b, upload_url, sound)).status, 201, 'what one node has announced the other takes')
  t.match(await puts(a, upload_url, sound), { status: 409 }, 'once')
  t.equal((await looks(b, 'bob', url)).status, 403, 'it was not sent yet')
  const body = { url, mime: 'audio/ogg', size: sound.length, duration_ms: 1500 }
  await alice.sends('u/bob', { type: 'voice', body })
  await bob.receives({ seq: 1, type: 'voice', body })
  for (const s of [a, b]) {
    t.ok((await looks(s, 'bob', url)).bytes.equals(sound))
    const part = await looks(s, 'bob', url, { range: 'bytes=1000-1999' })
    t.same([part.status, part.headers.get('content-range')], [206, 'bytes 1000-1999/300000'])
    t.ok(part.bytes.equals(sound.subarray(1000, 2000)))
    t.equal((await looks(s, 'bob', url, { range: 'bytes=300000-' })).status, 416)
    t.equal((await looks(s, 'mallory', url)).status, 403)
    t.equal((await looks(s, undefined, url)).status, 401)
  }
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await bob.sends('g/team', { type: 'voice', body })
  await alice.calls('group.add', { group: 'team', users: ['carol'] })
  await carol.receives({ group: 'team', type: 'system' })
  t.equal((await looks(b, 'carol', url)).status, 403, 'it was said before she came')
  await carol.isRefused('g/team', { type: 'voice', body }, 'forbidden')
  const { url: link } = await bob.calls<{ url: string }>('media.link', { url })
  t.equal((await looks(a, undefined, link)).status, 200, 'a link of the other node')
  t.equal(kept(), 1)
})

onTwoNodes('of two that use one URL at once, each on another node, one is taken, and its bytes stay', async (t, { a, b, kept }) => {
  const [alice] = [await a.actor('alice'), await b.actor('bob')]
  const size = 50_000
  const { upload_url, url } = await announces(a, 'alice', { mime: 'image/png', size })
  const both = [a, b].map((s) => ({ bytes: fileOf('image/png', size), s }))
  const begun = both.map(({ bytes, s }) => ({ bytes, finish: beginsPut(s, upload_url, bytes) }))
  for (const s of [a, b]) {
    await eventually(async () => (await s.metric('parley_media_uploads_under_way')) === 1, { what: 'its PUT is under way' })
  }
  const ended = await Promise.all(begun.map(async ({ bytes, finish }) => ({ bytes, status: await finish() })))
  t.same(ended.map(({ status }) => status).sort(), [201, 409])
  const taken = ended.find(({ status }) => status === 201)
  for (const s of [a, b]) t.ok((await looks(s, 'alice', url)).bytes.equals(taken?.bytes ?? Buffer.of()))
  await alice.sends('u/bob', { type: 'image', body: { url, mime: 'image/png', size, width: 1, height: 1 } })
  await sweeps(b, 1, 'the bytes of the other go', () => kept() === 1)
  t.ok((await looks(a, 'bob', url)).bytes.equals(taken?.bytes ?? Buffer.of()))
})

onTwoNodes('what is recalled on one node is gone on the other, and its bytes a day later', async (t, { a, b, kept }) => {
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  const image = await uploads(a, 'alice', 'image/png')
  await uploads(b, 'bob', 'image/png')
  const sent = await uploads(b, 'bob', 'image/jpeg')
  const { seq } = await alice.sends('u/bob', { type: 'image', body: { ...image, width: 1, height: 1 } })
  await bob.sends('u/alice', { type: 'image', body: { ...sent, width: 1, height: 1 } })
  await bob.receives({ seq, type: 'image' })
  t.equal((await looks(b, 'bob', image.url)).status, 200)
  await alice.sends('u/bob', { type: 'recall', body: { seq } })
  await bob.receives({ type: 'recall' })
  for (const s of [a, b]) t.equal((await looks(s, 'bob', image.url)).status, 403)
  await sweeps(b, 1, 'the recalled one and the one never sent go', () => kept() === 1)
  t.equal((await looks(b, 'alice', sent.url)).status, 200)
})

t.test('what is counted', async (t) => {
  const bucket = await openBucket(t)
  const s = await stage(t, bucket.settings)
  await s.cast(['alice', 'bob'])
  const counts = async (kind: string) => {
    const results = kind === 'uploads' ? ['stored', 'refused', 'failed'] : ['sent', 'unchanged', 'refused', 'failed']
    return Promise.all(results.map((result) => s.metric(`parley_media_${kind}_total{result="${result}"}`)))
  }
  t.same(
    [await counts('uploads'), await counts('downloads')],
    [
      [0, 0, 0],
      [0, 0, 0, 0],
    ],
  )
  const { url } = await uploads(s, 'alice', 'image/png', fileOf('image/png', 5000))
  const { upload_url } = await announces(s, 'alice', { mime: 'image/png', size: 100 })
  await puts(s, upload_url, fileOf('image/jpeg', 100))
  const seen = await looks(s, 'alice', url)
  await looks(s, 'alice', url, { range: 'bytes=0-9' })
  await looks(s, 'alice', url, { 'if-none-match': seen.headers.get('etag') as string })
  await looks(s, 'alice', url, { range: 'bytes=9999-' })
  await looks(s, 'bob', url)
  await looks(s, undefined, url)
  bucket.isDown = true
  await looks(s, 'alice', url)
  await puts(s, upload_url, fileOf('image/png', 100))
  t.same(
    [await counts('uploads'), await counts('downloads')],
    [
      [1, 1, 1],
      [2, 1, 3, 1],
    ],
  )
  t.equal(await s.metric('parley_media_upload_bytes_total'), 5000)
  t.equal(await s.metric('parley_media_download_bytes_total'), 5010)
  t.equal(await s.metric('parley_media_uploads_under_way'), 0)
})

t.test('an erased user: his links show nothing more, and what he had announced is not taken', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const image = await uploads(s, 'bob', 'image/png')
  await bob.sends('u/alice', { type: 'image', body: { ...image, width: 1, height: 1 } })
  const { url } = await alice.calls<{ url: string }>('media.link', { url: image.url })
  const { upload_url } = await announces(s, 'alice', { mime: 'image/png', size: 1000 })
  t.equal((await looks(s, undefined, url)).status, 200)
  await s.erases('alice')
  t.equal((await looks(s, undefined, url)).status, 403)
  t.equal((await puts(s, upload_url, fileOf('image/png'))).status, 403)
})

t.test('a server that is given a bucket puts into it what it kept as files, or does not start', async (t) => {
  const s = await stage(t)
  const [alice] = await s.cast(['alice', 'bob'])
  const [image, note] = [await uploads(s, 'alice', 'image/png'), await uploads(s, 'alice', 'text/plain', Buffer.from('noodles'))]
  await alice.sends('u/bob', { type: 'image', body: { ...image, width: 1, height: 1 } })
  const { bytes } = await looks(s, 'bob', image.url)
  await s.server.close()
  const bucket = await openBucket(t)
  bucket.isDown = true
  await t.rejects(s.moves(bucket.settings), /cannot be put into the bucket/)
  bucket.isDown = false
  await s.moves(bucket.settings)
  t.equal(bucket.objects.size, 2)
  t.ok((await looks(s, 'bob', image.url)).bytes.equals(bytes))
  t.equal((await looks(s, 'alice', note.url)).bytes.toString(), 'noodles')
  t.equal((await looks(s, 'bob', note.url)).status, 403)
  t.same(filesOf(mediaDirOf(s), '/objects/'), [])
  t.equal(filesOf(mediaDirOf(s), '/objects-in-bucket-').length, 2, 'the way back')
  await s.server.close()
  bucket.isDown = true
  await s.moves(bucket.settings)
  t.pass('it is done once')
})
