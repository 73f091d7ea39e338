import t from 'tap'
import { readConfig } from '../broker/config.js'
import type { Caller } from '../broker/plugin.js'
import type { TopicRule } from '../broker/topic-rules.js'
import { acl } from '../plugins/acl.js'

const alice: Caller = { user: 'alice', device: 'phone' }
const nobody: Caller = { user: '', device: 'phone' }

function gates(topics: TopicRule[]) {
  const plugin = acl({ config: readConfig({}, { topics }) })
  return {
    publish: (topic: string, caller = alice) => plugin.authorizeOpenPublish?.(caller, topic),
    subscribe: (filter: string, caller = alice) => plugin.authorizeOpenSubscribe?.(caller, filter),
    forward: (topic: string, caller = alice) => plugin.authorizeOpenForward?.(caller, topic),
  }
}

t.test('without rules nothing is open', async (t) => {
  const { publish, subscribe, forward } = gates([])
  t.notOk(publish('a'))
  t.notOk(subscribe('a'))
  t.notOk(subscribe('#'))
  t.notOk(forward('a'))
})

t.test('the profile of conformance suites', async (t) => {
  const { publish, subscribe, forward } = gates([
    { topic: 'test/nosubscribe', publish: true },
    { topic: '#', publish: true, subscribe: true },
  ])
  t.ok(publish('test/nosubscribe', nobody))
  t.equal(subscribe('test/nosubscribe', nobody), false)
  t.equal(forward('test/nosubscribe', nobody), false, 'not by a wildcard either')
  for (const filter of ['#', '+', '+/+', '/+', 'test/#', '/TopicA', 'TopicA/#']) t.ok(subscribe(filter, nobody), filter)
  for (const topic of ['TopicA', '/', '/x', 'test/other']) t.ok(publish(topic, nobody) && forward(topic, nobody), topic)
})

t.test('chat and system topics are never open, whatever a rule says', async (t) => {
  const { publish, subscribe, forward } = gates([
    { topic: '#', publish: true, subscribe: true },
    { topic: '+/#', publish: true, subscribe: true },
    { topic: '{user}/#', publish: true, subscribe: true },
  ])
  const closed = ['u', 'u/', 'u/alice/msg', 'u/alice/x', 'g', 'g/team/msg', 'rpc', 'rpc/history', '$SYS', '$SYS/x', '$', '$share/a/b']
  for (const user of ['alice', 'u', 'g', 'rpc', '$SYS']) {
    const caller = { user, device: 'd' }
    for (const topic of closed) {
      t.equal(publish(topic, caller), false, `${user} publishes ${topic}`)
      t.equal(subscribe(topic, caller), false, `${user} subscribes ${topic}`)
      t.equal(forward(topic, caller), false, `${user} receives ${topic}`)
    }
    for (const filter of ['u/#', 'u/+/msg', 'g/+/msg', '$SYS/#', '$share/g/#']) t.equal(subscribe(filter, caller), false, filter)
  }
})

t.test('{user} is the own id and nothing for an anonymous client', async (t) => {
  const { publish, subscribe, forward } = gates([{ topic: 'iot/{user}/#', publish: true, subscribe: true }])
  t.ok(publish('iot/alice/temp'))
  t.ok(publish('iot/alice'))
  t.ok(subscribe('iot/alice/#'))
  t.ok(forward('iot/alice/x'))
  for (const topic of ['iot/bob/temp', 'iot', 'iot//x', 'iot/{user}/x', 'iot/alicex']) {
    t.notOk(publish(topic), topic)
    t.notOk(subscribe(topic), topic)
  }
  for (const filter of ['iot/+/#', 'iot/#', '#', 'iot/{user}/#', 'iot/+']) t.notOk(subscribe(filter), filter)
  for (const topic of ['iot//x', 'iot/{user}/x', 'iot/alice/x']) {
    t.notOk(publish(topic, nobody), topic)
    t.notOk(subscribe(topic, nobody), topic)
    t.notOk(forward(topic, nobody), topic)
  }
})

t.test('the first match decides, and a wildcard is refused where an earlier rule does not cover it', async (t) => {
  const { publish, subscribe, forward } = gates([
    { topic: 'news/secret' },
    { topic: 'news/#', subscribe: true },
    { topic: '+/in', publish: true },
    { topic: 'news/in', publish: true },
  ])
  t.equal(publish('news/in'), false)
  t.equal(publish('x/in'), true)
  t.equal(publish('x/out'), undefined)
  t.equal(subscribe('news/secret'), false)
  t.equal(subscribe('news/#'), true)
  t.equal(forward('news/secret'), false)
  t.equal(forward('news/today'), true)
  t.equal(subscribe('x/in'), false)
  for (const topic of ['', 'news/#', '+/in', 'x/+']) t.notOk(publish(topic), `"${topic}" is no topic`)
})

/** A filter against a topic, straight from the words of the standard. */
function matches(filter: string, topic: string): boolean {
  const escaped = filter.split('/').map((level) => (level === '+' ? '[^/]*' : level))
  if (filter === '#') return true
  if (filter.endsWith('/#')) return new RegExp(`^${escaped.slice(0, -1).join('/')}(/.*)?$`).test(topic)
  return new RegExp(`^${escaped.join('/')}$`).test(topic)
}

function sequences(levels: readonly string[], lengthMax: number): string[] {
  let longest = ['']
  const all: string[] = []
  for (let length = 1; length <= lengthMax; length++) {
    longest = longest.flatMap((head) => levels.map((level) => (length === 1 ? level : `${head}/${level}`)))
    all.push(...longest)
  }
  return all
}

t.test('a rule grants exactly the filters that it covers: all small cases against all topics', async (t) => {
  // 'z' stands for any level that no filter names; one level more than the filters have shows what # reaches.
  // The empty topic does not exist, but `/#` matches it by its letter, and a rule may be that strict.
  const topics = sequences(['a', 'b', '', 'z'], 4)
  const plain = sequences(['a', 'b', '', '+'], 3)
  const filters = [...plain, ...plain.map((head) => `${head}/#`), '#'].filter((filter) => filter !== '' && filter.split('/').length <= 3)
  const matched = new Map(filters.map((filter) => [filter, new Set(topics.filter((topic) => matches(filter, topic)))]))
  const wrong: string[] = []
  for (const rule of filters) {
    const { publish, subscribe } = gates([{ topic: rule, publish: true, subscribe: true }])
    const ruled = matched.get(rule) ?? new Set()
    for (const topic of topics)
      if (topic !== '' && (publish(topic) === true) !== ruled.has(topic)) wrong.push(`rule ${rule}, topic ${topic}`)
    for (const filter of filters) {
      const covered = [...(matched.get(filter) ?? [])].every((topic) => ruled.has(topic))
      if ((subscribe(filter) === true) !== covered) wrong.push(`rule ${rule}, filter ${filter}`)
    }
  }
  t.ok(filters.length > 80)
  t.same(wrong, [])
})
