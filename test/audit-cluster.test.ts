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

const nodes = 2
const deployMutant = (dir: string, cli: string) => createCluster({ dir, cli, nodes })
const small: RunOptions = { seed: 92, minutes: 0.1, users: 12, rate: 25, faults: [] }
/** With this seed Redis is killed after 3 s, and comes back after people have stopped to talk. */
const deaf: RunOptions = { ...small, faults: ['redis-kill'], serverEveryMs: 3_000 }

const { noGapDetection, noDigest, noLogCheck, noEpoch, noUniqueIndex, noWriteConcern } = mutations

findsAll(t, [[noGapDetection, 'gaps']], { ...small, faults: ['redis-cut'], serverEveryMs: 500 }, deployMutant)
// Whoever hears nothing for longer than some seconds asks the log, with or without a digest: so that is taken away, too.
findsAll(t, [[noDigest, 'lost']], { ...deaf, rate: 12 }, deployMutant, [noLogCheck])
findsAll(t, [[noEpoch, 'sessions']], { ...small, faults: ['same-device'] }, deployMutant)
// Nodes that do not hear how far the others are learn from the store alone that they are too late.
findsAll(t, [[noUniqueIndex, 'changed']], deaf, deployMutant)
findsAll(t, [[noWriteConcern, 'lost']], deaf, deployMutant)

t.test('Parley passes the faults of a cluster', { buffered: true }, async (t) => {
  const faults = faultKinds.filter((kind) => scopeOf(kind) === 'cluster')
  const options: RunOptions = { seed: 4, minutes: 0.6, users: 12, rate: 8, faults, serverEveryMs: 2_500, healMsMax: 60_000 }
  const { history, verdict } = await audit(t, options, (dir) => createCluster({ dir, nodes }))
  t.same(verdict.violations, [])
  const done = new Set(history.faults.map(({ kind }) => kind))
  // On a busy machine people need so long to be back after one that not all come in time; a run says which have not.
  const missing = faults.filter((kind) => !done.has(kind))
  if (missing.length > 0) t.comment(`the machine was too busy for ${missing.join(', ')}`)
  t.ok(done.size >= faults.length / 2, `${done.size} of ${faults.length} kinds`)
  t.ok(verdict.acked > 50, `${verdict.acked} messages were acknowledged meanwhile`)
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
