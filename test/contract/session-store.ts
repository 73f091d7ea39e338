/** The contract of SessionStore: sessions with their cursors, and that a late save never brings a removed session back. */
import type { Test } from 'tap'
import { append } from './entries.js'
import { listOf, nowAndReopened, type OpenStore } from './store-under-test.js'

const phone = { user: 'alice', device: 'phone', createdTs: 1, seenTs: 1, epoch: 1 }
const cursor = (conv: string, seq: number, device = 'phone', epoch = 1) => ({ user: 'alice', device, epoch, conv, seq })

export function testSessionStore(t: Test, open: OpenStore): void {
  t.test('a session is created with cursors, found, listed and removed', async (t) => {
    const tested = await open(t)
    await tested.store.sessions.create(
      phone,
      new Map([
        ['u/alice/bob', 4],
        ['g/__proto__', 0],
      ]),
    )
    await tested.store.sessions.create({ ...phone, device: 'web' }, new Map())
    await tested.store.sessions.create({ ...phone, user: 'alic' }, new Map())
    for await (const { sessions } of nowAndReopened(tested)) {
      t.same(await sessions.get('alice', 'phone'), phone)
      t.equal(await sessions.get('alice', 'pho'), undefined)
      t.same((await sessions.list('alice')).map(({ device }) => device).sort(), ['phone', 'web'])
      t.same([...(await sessions.cursors('alice', 'phone'))].sort(), [
        ['g/__proto__', 0],
        ['u/alice/bob', 4],
      ])
      t.equal((await sessions.cursors('alice', 'web')).size, 0)
      t.same(
        (await listOf(sessions.all())).map(({ user, device }) => `${user}/${device}`),
        ['alic/phone', 'alice/phone', 'alice/web'],
      )
      t.same(await listOf(sessions.all(phone.seenTs)), [])
      t.equal((await listOf(sessions.all(phone.seenTs + 1))).length, 3)
    }
    await tested.store.sessions.remove('alice', 'phone')
    await tested.store.sessions.remove('alice', 'never')
    t.equal(await tested.store.sessions.get('alice', 'phone'), undefined)
    t.equal((await tested.store.sessions.cursors('alice', 'phone')).size, 0)
    t.same(
      (await tested.store.sessions.list('alice')).map(({ device }) => device),
      ['web'],
    )
  })

  t.test('the last epoch of a device is known, with and without a stored session', async (t) => {
    const { sessions } = (await open(t)).store
    t.equal(await sessions.lastEpoch('alice', 'phone'), 0)
    for (let connect = 0; connect < 3; connect++) {
      const { epoch } = await sessions.open('alice', 'phone')
      t.equal(await sessions.lastEpoch('alice', 'phone'), epoch)
      if (connect === 1) await sessions.create({ ...phone, epoch }, new Map())
    }
    t.equal(await sessions.lastEpoch('alice', 'web'), 0)
  })

  t.test('a new session of the same name starts with its own cursors only', async (t) => {
    const { store } = await open(t)
    await store.sessions.create(
      phone,
      new Map([
        ['u/alice/bob', 4],
        ['g/team', 9],
      ]),
    )
    await store.sessions.create({ ...phone, createdTs: 2 }, new Map([['g/team', 1]]))
    t.same(await store.sessions.get('alice', 'phone'), { ...phone, createdTs: 2 })
    t.same([...(await store.sessions.cursors('alice', 'phone'))], [['g/team', 1]])
  })

  t.test('saved cursors replace earlier ones and set when the session was seen', async (t) => {
    const tested = await open(t)
    await tested.store.sessions.create(phone, new Map([['u/alice/bob', 4]]))
    await tested.store.sessions.saveCursors([cursor('u/alice/bob', 9), cursor('g/team', 3), cursor('g/team', 5)], 77)
    await tested.store.sessions.saveCursors([cursor('u/alice/bob', 8)], 78)
    const { sessions } = await tested.reopen()
    t.same([...(await sessions.cursors('alice', 'phone'))].sort(), [
      ['g/team', 5],
      ['u/alice/bob', 8],
    ])
    t.same(await sessions.get('alice', 'phone'), { ...phone, seenTs: 78 })
  })

  t.test('a session is seen without its cursors, and one that does not exist is not made', async (t) => {
    const tested = await open(t)
    await tested.store.sessions.create(phone, new Map([['u/alice/bob', 4]]))
    await tested.store.sessions.touch([phone, { user: 'alice', device: 'never' }], 55)
    await tested.store.sessions.touch([], 66)
    for await (const { sessions } of nowAndReopened(tested)) {
      t.same(await sessions.get('alice', 'phone'), { ...phone, seenTs: 55 })
      t.same([...(await sessions.cursors('alice', 'phone'))], [['u/alice/bob', 4]])
      t.equal(await sessions.get('alice', 'never'), undefined)
    }
  })

  t.test('cursors of a session that was removed meanwhile are left alone', async (t) => {
    const tested = await open(t)
    const { sessions } = tested.store
    await sessions.create(phone, new Map())
    await sessions.create({ ...phone, device: 'web' }, new Map())
    const removed = sessions.remove('alice', 'phone')
    await Promise.all([removed, sessions.saveCursors([cursor('g/team', 3), cursor('g/team', 4, 'web')], 5)])
    await sessions.saveCursors([cursor('g/team', 6)], 6)
    for await (const { sessions } of nowAndReopened(tested)) {
      t.equal(await sessions.get('alice', 'phone'), undefined)
      t.equal((await sessions.cursors('alice', 'phone')).size, 0)
      t.same([...(await sessions.cursors('alice', 'web'))], [['g/team', 4]])
    }
  })

  t.test('what follows each other without waiting has the effect of that order', async (t) => {
    const { store } = await open(t)
    const { sessions } = store
    const all = [sessions.create(phone, new Map([['g/team', 1]])), sessions.saveCursors([cursor('g/team', 2), cursor('g/all', 7)], 9)]
    all.push(sessions.remove('alice', 'phone'), sessions.create({ ...phone, createdTs: 5 }, new Map([['g/all', 3]])))
    await Promise.all(all)
    t.same([...(await sessions.cursors('alice', 'phone'))], [['g/all', 3]])
    t.equal((await sessions.get('alice', 'phone'))?.createdTs, 5)
  })

  t.test('every connect of a device takes a higher epoch, and finds what is stored', async (t) => {
    const tested = await open(t)
    const { sessions } = tested.store
    const first = await sessions.open('alice', 'phone')
    t.equal(first.stored, undefined)
    const taken = await Promise.all(Array.from({ length: 20 }, () => sessions.open('alice', 'phone')))
    const epochs = taken.map(({ epoch }) => epoch)
    t.equal(new Set(epochs).size, 20, 'each is taken once')
    t.ok(Math.min(...epochs) > first.epoch)
    const last = Math.max(...epochs)
    await sessions.create({ ...phone, epoch: last }, new Map([['g/team', 1]]))
    await tested.reopen()
    const after = await tested.store.sessions.open('alice', 'phone')
    t.ok(after.epoch > last)
    t.same({ ...after.stored, epoch: last }, { ...phone, epoch: last })
    t.equal((await tested.store.sessions.open('alice', 'web')).stored, undefined)
    t.same(
      (await tested.store.sessions.list('alice')).map(({ device }) => device),
      ['phone'],
      'an epoch alone is no session',
    )
    t.equal(await tested.store.sessions.get('alice', 'web'), undefined)
  })

  t.test('what comes late with an earlier epoch changes nothing', async (t) => {
    const tested = await open(t)
    const { sessions } = tested.store
    const older = await sessions.open('alice', 'phone')
    const newer = await sessions.open('alice', 'phone')
    await sessions.create({ ...phone, epoch: older.epoch }, new Map([['g/team', 3]]))
    t.equal(await sessions.get('alice', 'phone'), undefined, 'the later connect wanted no stored session, or has yet to make it')
    await sessions.create({ ...phone, epoch: newer.epoch }, new Map([['g/team', 1]]))
    await sessions.create({ ...phone, createdTs: 9, epoch: older.epoch }, new Map([['g/team', 3]]))
    await sessions.saveCursors(
      [cursor('g/team', 7, 'phone', older.epoch), cursor('g/all', 2, 'phone', newer.epoch), cursor('g/all', 1, 'phone', older.epoch)],
      5,
    )
    await sessions.remove('alice', 'phone', older.epoch)
    for await (const { sessions } of nowAndReopened(tested)) {
      t.same(await sessions.get('alice', 'phone'), { ...phone, seenTs: 5, epoch: newer.epoch })
      t.same([...(await sessions.cursors('alice', 'phone'))].sort(), [
        ['g/all', 2],
        ['g/team', 1],
      ])
    }
    const last = await tested.store.sessions.open('alice', 'phone')
    await tested.store.sessions.saveCursors([cursor('g/team', 8, 'phone', newer.epoch)], 6)
    t.same(
      await tested.store.sessions.cursors('alice', 'phone'),
      new Map([
        ['g/all', 2],
        ['g/team', 1],
      ]),
    )
    await tested.store.sessions.remove('alice', 'phone', last.epoch)
    t.equal(await tested.store.sessions.get('alice', 'phone'), undefined)
    t.ok((await tested.store.sessions.open('alice', 'phone')).epoch > last.epoch, 'also when nothing is stored')
  })

  t.test('a removed session can retransmit nothing', async (t) => {
    const tested = await open(t)
    const { store } = tested
    const sent = { session: 'alice/phone', packetId: 7, digest: 'one', epoch: 1, order: 1 }
    await store.sessions.create(phone, new Map())
    await store.log.append([
      append('u/alice/bob', 0, 1, {
        retransmits: [
          { ...sent, seq: 1 },
          { ...sent, session: 'alice/phone2', seq: 1 },
        ],
      }),
    ])
    await store.sessions.remove('alice', 'phone')
    for await (const { log } of nowAndReopened(tested)) {
      t.equal(await log.findRetransmit('alice/phone', 7), undefined)
      t.equal((await log.findRetransmit('alice/phone2', 7))?.seq, 1)
    }
  })
}
