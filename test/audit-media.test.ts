/** The audit's judgement of files that were sent: who may read the message gets the bytes, nobody else, and after a recall nobody. */
import t from 'tap'
import { checkMedia } from '../audit/checks/media.js'
import type { Entry, World } from '../audit/checks/world.js'
import type { EventOf, History } from '../audit/history.js'

const conv = 'u/alice/bob'

const entry = (seq: number, type: string, body: object): Entry => ({ seq, ts: seq, from: 'alice', id: `f${seq}`, type, body, sends: [] })
const world = {
  log: new Map([
    [
      conv,
      [undefined, entry(1, 'file', { url: '/1' }), entry(2, 'file', { url: '/2' }), entry(3, 'recall', { seq: 2 }), entry(4, 'text', {})],
    ],
  ]),
  mayRead: (_conv: string, user: string) => user === 'bob',
} as unknown as World

function judge(look: Partial<EventOf<'looked'>>): string[] {
  const found: string[] = []
  const looked = { event: 'looked', user: 'bob', conv, seq: 1, status: 200, isWhole: true, ...look } as const
  checkMedia({ looks: [looked] } as unknown as History, world, (wrong) => void found.push(wrong))
  return found
}

t.test('what is right is right', async (t) => {
  t.same(judge({}), [], 'bob got it')
  t.same(judge({ user: 'x0', status: 403, isWhole: false }), [], 'an outsider did not')
  t.same(judge({ seq: 2, status: 403, isWhole: false }), [], 'nor bob, after the recall')
  t.same(judge({ seq: 4, status: 404 }), [], 'a text names no file')
})

t.test('what is wrong has a name', async (t) => {
  t.same(judge({ status: 404, isWhole: false }), ['lost'])
  t.same(judge({ status: 503, isWhole: false }), ['lost'])
  t.same(judge({ isWhole: false }), ['changed'])
  t.same(judge({ user: 'x0' }), ['leaked'])
  t.same(judge({ seq: 2 }), ['leaked'])
})
