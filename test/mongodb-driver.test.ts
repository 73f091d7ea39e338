/** Connections that end while something is to be written to them, which the driver by itself would wait for without end. */
import { setTimeout as delay } from 'node:timers/promises'
import { MongoClient, MongoError } from 'mongodb'
import t from 'tap'
import '../broker/store/mongodb/driver-patch.js'
import { startFakeMongodb } from './helper/fake-mongodb.js'

const shortly = { serverSelectionTimeoutMS: 2_000, connectTimeoutMS: 1_000, socketTimeoutMS: 500, minHeartbeatFrequencyMS: 500 }

t.test('a write that a server does not read is given up after its timeout', async (t) => {
  const fake = await startFakeMongodb(t)
  const client = await MongoClient.connect(fake.url, { ...shortly, retryWrites: false })
  t.teardown(() => client.close())
  const collection = client.db('test').collection('test')
  await collection.insertOne({ text: 'small' })
  fake.stopReading()
  // More than a socket and the system behind it take.
  const write = collection.insertMany(Array.from({ length: 20 }, () => ({ text: 'x'.repeat(1_000_000) })))
  const ended = await Promise.race([write.catch((error: unknown) => error), delay(10_000, 'still waiting', { ref: false })])
  t.type(ended, MongoError)
})

t.test('a server whose connections have all ended at once is found again, each time', async (t) => {
  const fake = await startFakeMongodb(t)
  const client = await MongoClient.connect(fake.url, { ...shortly, maxPoolSize: 8, retryReads: false })
  t.teardown(() => client.close())
  const collection = client.db('test').collection('test')
  const readAll = (): Promise<unknown> => Promise.allSettled(Array.from({ length: 8 }, () => collection.findOne({})))
  for (let round = 1; round <= 6; round++) {
    await readAll()
    // Long enough for the monitor to ask at once when it is woken.
    await delay(550)
    fake.isSilent = true
    const reading = readAll()
    await delay(50)
    fake.endAll()
    // Whoever is refused asks again, while some connections are not yet known to have ended.
    await reading
    fake.isSilent = false
    t.equal(await collection.findOne({}), null, `after round ${round}`)
  }
})
