/** The contract of KeyValueStore: pairs by prefix in the order of their bytes, and the order of writes to one key. */
import type { Test } from 'tap'
import type { KeyValueStore } from '../../broker/store/store.js'
import { nowAndReopened, type OpenStore } from './store-under-test.js'

async function pairs(map: KeyValueStore, prefix: string): Promise<[string, string][]> {
  const found: [string, string][] = []
  for await (const { key, value } of map.entries(prefix)) found.push([key, value.toString()])
  return found
}

/** Runs on both maps of the store. */
export function testKeyValueStore(t: Test, open: OpenStore): void {
  testMap(t, open, 'openTopics')
  testMap(t, open, 'records')
}

function testMap(t: Test, open: OpenStore, name: 'openTopics' | 'records'): void {
  t.test(`${name}: pairs are listed by prefix in the order of their bytes`, async (t) => {
    const tested = await open(t)
    const keys = ['a', 'a/1', 'a/10', 'a/2', 'a/é', 'a/💬', 'b', '__proto__', 'a\u0000']
    await Promise.all(keys.map((key) => tested.store[name].put(key, Buffer.from(`value of ${key}`))))
    for await (const { [name]: map } of nowAndReopened(tested)) {
      t.same(
        (await pairs(map, 'a/')).map(([key]) => key),
        ['a/1', 'a/10', 'a/2', 'a/é', 'a/💬'],
      )
      t.equal((await pairs(map, '')).length, keys.length)
      t.same(await pairs(map, '__proto__'), [['__proto__', 'value of __proto__']])
      t.same(await pairs(map, 'c'), [])
    }
  })

  t.test(`${name}: the last of several writes to a key stays`, async (t) => {
    const { store } = await open(t)
    const map = store[name]
    await Promise.all([
      map.put('k', Buffer.from('1')),
      map.remove('k'),
      map.put('k', Buffer.from('2')),
      map.put('gone', Buffer.from('x')),
      map.remove('gone'),
    ])
    await map.remove('never')
    t.equal((await map.get('k'))?.toString(), '2')
    t.equal(await map.get('gone'), undefined)
    t.same(
      (await map.getAll(['gone', 'k', 'never', 'k'])).map((value) => value?.toString()),
      [undefined, '2', undefined, '2'],
    )
    t.same(await map.getAll([]), [])
    t.equal(await map.get('never'), undefined)
    t.same(await pairs(map, ''), [['k', '2']])
  })

  t.test(`${name}: of several that add a key one does, and none replaces it`, async (t) => {
    const tested = await open(t)
    const map = tested.store[name]
    const added = await Promise.all(
      ['1', '2', '3', '4'].map(async (value) => ((await map.add('k', Buffer.from(value))) ? value : undefined)),
    )
    const [first, ...others] = added.filter((value) => value !== undefined)
    t.same(others, [])
    t.equal((await map.get('k'))?.toString(), first)
    await map.remove('k')
    t.ok(await map.add('k', Buffer.from('again')))
    for await (const { [name]: reopened } of nowAndReopened(tested)) {
      t.notOk(await reopened.add('k', Buffer.from('late')))
      t.equal((await reopened.get('k'))?.toString(), 'again')
    }
  })

  t.test(`${name}: more pairs than a page, an empty value, a large one and the longest key`, async (t) => {
    const { store } = await open(t)
    const map = store[name]
    const keys = Array.from({ length: 1_500 }, (_, i) => `many/${String(i).padStart(5, '0')}`)
    await Promise.all(keys.map((key) => map.put(key, Buffer.from(key))))
    await map.put('other/empty', Buffer.alloc(0))
    await map.put('other/large', Buffer.alloc(300_000, 'x'))
    await map.put(`z${'k'.repeat(1_023)}`, Buffer.from('long'))
    t.same(
      (await pairs(map, 'many/')).map(([key]) => key),
      keys,
    )
    t.same(
      (await pairs(map, 'other/')).map(([key, value]) => [key, value.length]),
      [
        ['other/empty', 0],
        ['other/large', 300_000],
      ],
    )
    t.equal((await pairs(map, 'z')).length, 1)
  })

  t.test(`${name}: an iteration that is given up, or overlaps writes, holds nothing`, async (t) => {
    const { store } = await open(t)
    const map = store[name]
    await Promise.all(Array.from({ length: 600 }, (_, i) => map.put(`k${String(i).padStart(4, '0')}`, Buffer.from('v'))))
    let seen = 0
    for await (const { key } of map.entries('k')) {
      if (++seen % 40 === 0) await map.remove(key)
      if (seen === 400) break
    }
    t.equal((await pairs(map, 'k')).length, 590)
  })
}
