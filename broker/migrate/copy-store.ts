/**
 * Copies everything that a store holds into an empty one, and compares the two. Every step looks at what is there already and
 * repeats nothing, so a copy that was cut off at any point is begun again and goes on; the target counts as whole only after all of it
 * was found equal. Nobody else may write to either store meanwhile.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { retransmitMsMax } from '../log-writer.js'
import { OperatorError } from '../operator-error.js'
import { type Store, type StoredRetransmit, StoreUnavailable } from '../store/store.js'
import type { ConversationId } from '../topics.js'
import { claim, declareWhole } from './claim.js'
import { copyConversations, type Retransmits } from './conversations.js'
import { kinds } from './kinds.js'
import { type Comparison, compareStores } from './verify.js'

export interface CopyOptions {
  source: Store
  target: Store
  /** Told now and then what is done, in words. */
  progress: (done: string) => void
  /** Pauses before a step is tried again that failed because a store could not be reached. */
  pausesMs?: readonly number[]
}

/** In one append, which is to be answered in a few seconds by any server. */
const conversationsAtOnce = 50
const pausesMsDefault = [500, 1_000, 2_000, 4_000, 8_000, 16_000]

/** Resolves with what was compared: the copy is whole if there is no difference. Throws an OperatorError when it cannot go on. */
export async function copyStore({ source, target, progress, pausesMs = pausesMsDefault }: CopyOptions): Promise<Comparison> {
  const patiently = <T>(step: () => Promise<T>): Promise<T> => repeated(step, pausesMs, progress)
  if (await patiently(() => claim(source, target))) progress('going on with a copy that was begun before')
  for (const kind of kinds) {
    await patiently(() => kind.copy(source, target))
    progress(`copied ${kind.name}`)
  }
  const retransmits = await recentRetransmits(source)
  let conversations = 0
  let messages = 0
  for await (const page of pagesOf(source.log.conversations())) {
    messages += await patiently(() => copyConversations(source, target, page, retransmits))
    conversations += page.length
    progress(`copied ${conversations} conversations, ${messages} messages of them in this run`)
  }
  const comparison = await patiently(() => compareStores(source, target, retransmits, progress))
  if (comparison.differing === 0) await patiently(() => declareWhole(target, Date.now()))
  return comparison
}

async function* pagesOf(items: AsyncIterable<ConversationId>): AsyncGenerator<ConversationId[]> {
  let page: ConversationId[] = []
  for await (const item of items) {
    page.push(item)
    if (page.length < conversationsAtOnce) continue
    yield page
    page = []
  }
  if (page.length > 0) yield page
}

/** Those that are still recognised; what is older is not looked for any more. */
async function recentRetransmits({ log }: Store): Promise<Retransmits> {
  const found = new Map<ConversationId, StoredRetransmit[]>()
  for await (const one of log.retransmits()) {
    if (Date.now() - one.ts > retransmitMsMax) continue
    const others = found.get(one.conv)
    if (others === undefined) found.set(one.conv, [one])
    else others.push(one)
  }
  return found
}

/** Steps may be repeated at will. */
async function repeated<T>(step: () => Promise<T>, pausesMs: readonly number[], progress: (done: string) => void): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await step()
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error
      const pauseMs = pausesMs[attempt]
      if (pauseMs === undefined)
        throw new OperatorError(`a store cannot be reached: ${error.message}. Run the same command again: it goes on where it was`, {
          cause: error,
        })
      progress(`a store cannot be reached, trying again: ${error.message}`)
      await delay(pauseMs)
    }
  }
}
