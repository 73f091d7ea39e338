/** What is asked of a store at the same moment shares commands, and each gets his own answer. */
import t from 'tap'
import { groupedByUser } from '../broker/store/mongodb/collections.js'
import { Together } from '../broker/store/mongodb/together.js'

interface Command {
  keys: readonly number[]
  answer(): void
  fail(): void
}

function newCommands(): { commands: Command[]; together: Together<number, string> } {
  const commands: Command[] = []
  const together = new Together<number, string>(
    (keys) =>
      new Promise((resolve, reject) => {
        commands.push({
          keys,
          answer: () => resolve(keys.map((key) => `answer ${key}`)),
          fail: () => reject(new Error('away')),
        })
      }),
  )
  return { commands, together }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

t.test('what is asked in one turn is one command, answered to each', async (t) => {
  const { commands, together } = newCommands()
  const asked = [1, 2, 1].map((key) => together.ask(key))
  await turn()
  t.same(
    commands.map(({ keys }) => keys),
    [[1, 2, 1]],
  )
  commands[0]?.answer()
  t.same(await Promise.all(asked), ['answer 1', 'answer 2', 'answer 1'])
})

t.test('what is asked later is not answered by a command that is under way', async (t) => {
  const { commands, together } = newCommands()
  const first = together.ask(1)
  await turn()
  const second = together.ask(1)
  await turn()
  t.equal(commands.length, 2)
  commands[0]?.fail()
  await t.rejects(first, { message: 'away' })
  commands[1]?.answer()
  t.equal(await second, 'answer 1')
})

t.test('with four commands under way the rest waits and shares the next', async (t) => {
  const { commands, together } = newCommands()
  const asked: Promise<string>[] = []
  for (let key = 0; key < 4; key++) {
    asked.push(together.ask(key))
    await turn()
  }
  for (let key = 4; key < 10; key++) {
    asked.push(together.ask(key))
    await turn()
  }
  t.equal(commands.length, 4)
  commands[2]?.answer()
  await asked[2]
  await turn()
  await turn()
  t.same(commands[4]?.keys, [4, 5, 6, 7, 8, 9])
  for (const { answer } of commands) answer()
  t.equal((await Promise.all(asked)).length, 10)
})

t.test('documents are grouped by user', async (t) => {
  const documents = [
    { user: 'a', n: 1 },
    { user: 'b', n: 2 },
    { user: 'a', n: 3 },
  ]
  t.same(
    groupedByUser(documents)
      .get('a')
      ?.map(({ n }) => n),
    [1, 3],
  )
})
