/**
 * Rules for application topics, as PARLEY_TOPICS gives them: their shape and what makes one valid. The
 * configuration refuses invalid rules at start; the ACL plugin compiles valid ones.
 */
import { type TSchema, Type } from 'typebox'
import { isChatFilter } from './topics.js'

/** Says who may use the topics that `topic` matches. What is not allowed is denied. */
export interface TopicRule {
  /** A topic filter; a level `{user}` stands for the caller's own user id. */
  readonly topic: string
  readonly publish?: boolean
  readonly subscribe?: boolean
}

const rulesMax = 200

export const topicRulesSchema: TSchema = Type.Array(
  Type.Object(
    {
      topic: Type.String({ minLength: 1, maxLength: 1024 }),
      publish: Type.Optional(Type.Boolean()),
      subscribe: Type.Optional(Type.Boolean()),
    },
    { additionalProperties: false },
  ),
  { maxItems: rulesMax },
)

export const userLevel = '{user}'

/** What is wrong with the filter of a rule, each as a phrase; empty when it is valid. */
export function faultsOfRuleTopic(topic: string): string[] {
  const faults: string[] = []
  const levels = topic.split('/')
  if (topic.startsWith('$')) faults.push('topics that start with $ belong to no application')
  if (isChatFilter(topic)) faults.push(`topics under ${levels[0]}/ are chat and not open to rules`)
  if (topic.includes('\0')) faults.push('a topic has no NUL character')
  levels.forEach((level, at) => {
    if (level.includes('#') && (level !== '#' || at !== levels.length - 1)) faults.push('# must be a whole level and the last one')
    if (level.includes('+') && level !== '+') faults.push('+ must be a whole level')
    if (/[{}]/.test(level) && level !== userLevel)
      faults.push(`${userLevel} is the only placeholder and must be a whole level, not "${level}"`)
  })
  return faults
}
