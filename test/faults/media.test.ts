/** The process is killed, and the disk is full, in the middle of an upload: nothing of it stays, and what was there before is whole. */
import { readdirSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { announces, fileOf, looks, puts, uploads } from '../helper/media.js'
import { openBucket } from '../helper/s3-server.js'
import { ServerProcess, startServer, tokenOf } from '../helper/server-process.js'
import { smallDisk } from '../helper/small-disk.js'
import { stage } from '../helper/stage.js'

const filesOf = (dir: string): string[] =>
  readdirSync(join(dir, 'media'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ path, name }) => join(path, name))

t.test('kill -9 in the middle of an upload', { timeout: 60_000 }, async (t) => {
  const server = await startServer(t)
  const bytes = fileOf('image/png', 1_000_000)
  const { body } = await server.call('ann', 'media.upload', { mime: 'image/png', size: bytes.length })
  const { upload_url, url } = body as { upload_url: string; url: string }
  const socket = connect(server.httpPort, '127.0.0.1')
  socket.on('error', () => socket.destroy())
  socket.write(`PUT ${upload_url} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`)
  socket.write(bytes.subarray(0, 500_000))
  await eventually(() => filesOf(server.dir).some((path) => statSync(path).size > 0))
  await server.kill()
  t.equal(filesOf(server.dir).length, 1, 'this is what it leaves')
  await server.start()
  t.same(filesOf(server.dir), [])
  const port = server.httpPort
  t.equal((await fetch(`http://127.0.0.1:${port}${upload_url}`, { method: 'PUT', body: bytes })).status, 201, 'the URL is still good')
  await server.kill()
  await new ServerProcess(t, server.dir).start().then(async (again) => {
    const seen = await fetch(`http://127.0.0.1:${again.httpPort}${url}`, { headers: { authorization: `Bearer ${await tokenOf('ann')}` } })
    t.ok(Buffer.from(await seen.arrayBuffer()).equals(bytes), 'what was answered survives')
  })
})

t.test('who breaks an upload off, or asks oddly, is no fault of the server', async (t) => {
  const server = await startServer(t)
  const { body } = await server.call('ann', 'media.upload', { mime: 'text/plain', size: 100_000, name: 'half \ud800.txt' })
  const { upload_url, url } = body as { upload_url: string; url: string }
  const socket = connect(server.httpPort, '127.0.0.1')
  socket.write(`PUT ${upload_url} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(50_000)}`)
  await eventually(() => filesOf(server.dir).some((path) => statSync(path).size > 0))
  socket.resetAndDestroy()
  await eventually(() => filesOf(server.dir).length === 0, { what: 'nothing of it stays' })
  const at = (path: string): string => `http://127.0.0.1:${server.httpPort}${path}`
  t.equal((await fetch(at(upload_url), { method: 'PUT', body: 'x'.repeat(100_000) })).status, 201)
  const seen = await fetch(at(url), { headers: { authorization: `Bearer ${await tokenOf('ann')}` } })
  t.match(seen, { status: 200 })
  t.equal(seen.headers.get('content-disposition'), "attachment; filename*=UTF-8''half%20%EF%BF%BD.txt")
  t.equal((await fetch(at(`${url}?view=a&view=b`))).status, 403)
  t.equal((await fetch(at(`${url}?upload=a&upload=b`), { method: 'PUT', body: 'x' })).status, 403)
  t.same(
    server.log.filter(({ level }) => level === 'error'),
    [],
  )
})

t.test('kill -9 when the bucket has the bytes and nobody was told: they go again', { timeout: 60_000 }, async (t) => {
  const bucket = await openBucket(t)
  const { mediaS3Endpoint, mediaS3Bucket, mediaS3Region, mediaS3KeyId, mediaS3Secret } = bucket.settings as Record<string, string>
  const server = await startServer(t, {
    PARLEY_MEDIA_S3_ENDPOINT: mediaS3Endpoint as string,
    PARLEY_MEDIA_S3_BUCKET: mediaS3Bucket as string,
    PARLEY_MEDIA_S3_REGION: mediaS3Region as string,
    PARLEY_MEDIA_S3_KEY_ID: mediaS3KeyId as string,
    PARLEY_MEDIA_S3_SECRET: mediaS3Secret as string,
    PARLEY_MEDIA_UNSENT_MS: '1',
  })
  bucket.isMute = true
  const bytes = fileOf('image/png', 100_000)
  const { body } = await server.call('ann', 'media.upload', { mime: 'image/png', size: bytes.length })
  const { upload_url, url } = body as { upload_url: string; url: string }
  const put = fetch(`http://127.0.0.1:${server.httpPort}${upload_url}`, { method: 'PUT', body: bytes }).then(
    ({ status }) => status,
    () => 'cut off',
  )
  await eventually(() => bucket.objects.size === 1)
  await server.kill()
  t.equal(await put, 'cut off')
  bucket.isMute = false
  await server.start()
  await eventually(() => bucket.objects.size === 0, { what: 'the bytes are gone' })
  const seen = await fetch(`http://127.0.0.1:${server.httpPort}${url}`, { headers: { authorization: `Bearer ${await tokenOf('ann')}` } })
  t.equal(seen.status, 404)
  t.same(filesOf(server.dir), [])
})

t.test('no room on the disk', { timeout: 60_000 }, async (t) => {
  const dir = await smallDisk(t)
  if (dir === undefined) return
  const s = await stage(t, { dataDir: join(dir, 'data') })
  const small = await uploads(s, 'ann', 'image/png', fileOf('image/png', 100_000))
  const bytes = fileOf('image/png', 8_000_000)
  const { upload_url } = await announces(s, 'ann', { mime: 'image/png', size: bytes.length })
  t.match(await puts(s, upload_url, bytes), { status: 503, body: { error: { code: 'unavailable' } } })
  t.equal(filesOf(join(dir, 'data')).length, 1, 'nothing of it is left')
  t.equal((await looks(s, 'ann', small.url)).status, 200)
})
