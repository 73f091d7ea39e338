/** Where media can be: the same test on files beside the embedded store, on a bucket, and on a node of a cluster with one. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ServerOptions } from '../../broker/index.js'
import { eventually } from './eventually.js'
import { filesOf } from './files-of.js'
import { newDatabase, startMongodb } from './mongodb.js'
import { newPrefix, startRedis } from './redis.js'
import { openGateway } from './s3-gateway.js'
import { type Bucket, openBucket } from './s3-server.js'
import { type Stage, stage } from './stage.js'

export interface Place {
  s: Stage
  bucket: Bucket | undefined
  /** Objects whose bytes are kept. */
  kept(): number
}

export const mediaDirOf = (s: Stage): string => join(s.options.dataDir as string, 'media')
/** What is being received, or was left. */
export const incoming = (s: Stage): string[] => filesOf(mediaDirOf(s), '/incoming-')

/** The same test on files and on a bucket. */
export function onBoth(name: string, test: (t: Test, place: Place) => Promise<void>, options: ServerOptions = {}): void {
  t.test(`${name} (files)`, async (t) => {
    const s = await stage(t, options)
    await test(t, { s, bucket: undefined, kept: () => filesOf(mediaDirOf(s), '/objects/').length })
    t.same(incoming(s), [], 'nothing half-uploaded is left')
  })
  t.test(`${name} (bucket)`, async (t) => {
    const bucket = await openBucket(t)
    const s = await stage(t, { ...options, ...bucket.settings })
    await test(t, { s, bucket, kept: () => bucket.objects.size })
    t.same(bucket.refused, [], 'the bucket had nothing to refuse')
    t.same(incoming(s), [], 'nothing half-uploaded is left')
  })
}

export interface Nodes {
  a: Stage
  b: Stage
  kept(): number
}

/** Two nodes on MongoDB and Redis, with a bucket: of a real S3 server where there is one. */
export function onTwoNodes(name: string, test: (t: Test, nodes: Nodes) => Promise<void>, options: ServerOptions = {}): void {
  t.test(`${name} (two nodes)`, async (t) => {
    const [mongodb, redis] = [await startMongodb(t), await startRedis(t)]
    if (mongodb === undefined || redis === undefined) return
    const bucket = (await openGateway(t)) ?? (await openBucket(t))
    const shared = { ...options, ...bucket.settings, mongodbUrl: newDatabase(mongodb), redisUrl: redis.url, redisPrefix: newPrefix() }
    const [a, b] = [await stage(t, { ...shared, nodeId: 'a' }), await stage(t, { ...shared, nodeId: 'b' })]
    await test(t, { a, b, kept: () => bucket.objects.size })
    t.same([...incoming(a), ...incoming(b)], [], 'nothing half-uploaded is left')
  })
}

/** At another time of the day. */
export async function later<Result>(ms: number, act: () => Promise<Result>): Promise<Result> {
  const real = Date.now
  Date.now = () => real() + ms
  return act().finally(() => {
    Date.now = real
  })
}

/**
 * So many days later the server has looked twice for what nobody refers to. Where a look comes to nothing in the time that it has, the next ones
 * are later: a mark of the second look is not old enough for the first one.
 */
export async function sweeps(s: Stage, days: number, what: string, isDone: () => boolean | Promise<boolean>): Promise<void> {
  let hours = days * 24
  const look = async (): Promise<boolean> => {
    for (let times = 0; times < 2; times++) {
      await later(hours * 3_600_000, () => s.restart())
      hours += 3
      // Restarting at once would end the round.
      for (let i = 0; i < 20; i++) await s.http('GET', '/readyz')
    }
    return (await isDone()) || Promise.reject(new Error(`${filesOf(mediaDirOf(s), '/objects/').length} objects are kept as files`))
  }
  await eventually(look, { what, timeoutMs: 60_000 })
}
