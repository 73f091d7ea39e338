/**
 * The audit of a cluster, judged itself: Parley passes all its faults, and each layer that keeps a cluster right is missed when it is taken away.
 * The seeds are fixed, and so is what is drawn by them.
 */
import { MongoClient } from 'mongodb'
import t from 'tap'
import { createCluster } from '../audit/cluster.js'
import { faultKinds, scopeOf } from '../audit/faults.js'
import type { RunOptions } from '../audit/run.js'
import { createStore } from '../audit/service.js'
import { createTurnstile } from '../audit/turnstile.js'
import { audit, findsAll, folder } from './helper/audited.js'
import { mutations } from './helper/mutations.js'
import { findProgram, skipWithout } from './helper/own-service.js'

t.setTimeout(480_000)
// Servers start many times here; what tap loads into each process makes that slow.
delete process.env.NODE_OPTIONS

const isMissing =
  (findProgram('redis-server') === undefined && skipWithout(t, 'redis', 'needs redis-server in PATH') === undefined) ||
  (findProgram('mongod', 'ferretdb') === undefined && skipWithout(t, 'mongodb', 'needs mongod or ferretdb in PATH') === undefined)
if (isMissing) process.exit(0)

const small: RunOptions = { seed: 4, minutes: 0.12, users: 12, rate: 40, faults: [] }
const nodes = 2
const deployMutant = (dir: string, cli: string) => createCluster({ dir, cli, nodes })

const { noGapDetection, noDigest, noEpoch, noUniqueIndex, noWriteConcern } = mutations

// What a connection to Redis misses while it is cut is found by what comes next in the conversation, and where nothing does by the digest.
findsAll(t, [[noGapDetection, 'gaps', 'lost']], { ...small, faults: ['redis-cut'], serverEveryMs: 500 }, deployMutant)
findsAll(t, [[noDigest, 'lost']], { ...small, faults: ['redis-cut'], serverEveryMs: 300 }, deployMutant)
findsAll(t, [[noEpoch, 'sessions']], { ...small, faults: ['same-device'] }, deployMutant)
// Without Redis a node does not hear how far the others are, so that only the store can tell it that it is too late.
const deaf: RunOptions = { ...small, faults: ['redis-kill'], serverEveryMs: 2_500 }
findsAll(t, [[noUniqueIndex, 'changed', 'lost']], deaf, deployMutant)
findsAll(t, [[noWriteConcern, 'lost']], deaf, deployMutant)

t.test('Parley passes the faults of a cluster', { buffered: true }, async (t) => {
  const faults = faultKinds.filter((kind) => scopeOf(kind) === 'cluster')
  const options: RunOptions = { seed: 4, minutes: 0.6, users: 24, rate: 30, faults, serverEveryMs: 2_500 }
  const { history, verdict } = await audit(t, options, (dir) => createCluster({ dir, nodes: 3 }))
  t.same(verdict.violations, [])
  t.same([...new Set(history.faults.map(({ kind }) => kind))].sort(), [...faults].sort())
})

t.test('FerretDB behind the turnstile: updates at once are all counted, and a write with concern 0 gets no answer', async (t) => {
  const store = await createStore(folder(t))
  t.teardown(() => store.kill())
  await store.start()
  if (!store.needsTurns) return t.comment('MongoDB needs no turnstile')
  const turnstile = await createTurnstile(store.port)
  t.teardown(() => turnstile.close())
  const client = await MongoClient.connect(`mongodb://127.0.0.1:${turnstile.port}/?directConnection=true`)
  t.teardown(() => client.close())
  const counters = client.db('test').collection<{ _id: string; count: number }>('counters')
  const add = () => counters.updateOne({ _id: 'one' }, { $inc: { count: 1 } }, { upsert: true })
  await add()
  await Promise.all(Array.from({ length: 200 }, add))
  t.equal((await counters.findOne({ _id: 'one' }))?.count, 201)
  await counters.insertOne({ _id: 'unasked', count: 1 }, { writeConcern: { w: 0 } })
  t.equal(await counters.countDocuments(), 2)
})
