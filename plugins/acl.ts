/**
 * Gates of application topics: the rules of PARLEY_TOPICS, first match wins, and what no rule matches is left
 * to others (by default: denied). Chat topics and `$…` are never open, whatever a rule says. A wildcard subscription is
 * granted by the first rule that covers all of it; every forward is judged again by the concrete topic, so a
 * narrower denial above a wide grant holds.
 */
import type { Plugin, PluginServer } from '../broker/plugin.js'
import { type TopicRule, userLevel } from '../broker/topic-rules.js'
import { isChatFilter, targetOf } from '../broker/topics.js'

interface CompiledRule {
  levels: readonly string[]
  publish: boolean
  subscribe: boolean
}

export function acl(server: Pick<PluginServer, 'config'>): Plugin {
  const rules = server.config.topics.map(compile)
  // One topic is forwarded to many clients in a row.
  let lastTopic = ''
  let lastLevels: readonly string[] = ['']

  function ruleFor(topic: string, user: string): CompiledRule | undefined {
    if (topic !== lastTopic) {
      lastTopic = topic
      lastLevels = topic.split('/')
    }
    return rules.find((rule) => covers(rule.levels, lastLevels, user))
  }

  return {
    name: 'acl',
    authorizeOpenPublish: ({ user }, topic) => {
      if (topic === '' || targetOf(topic).kind !== 'open' || /[+#]/.test(topic)) return false
      return ruleFor(topic, user)?.publish
    },
    authorizeOpenSubscribe: ({ user }, filter) => {
      if (filter === '' || filter.startsWith('$') || isChatFilter(filter)) return false
      const levels = normalize(filter.split('/'))
      return rules.find((rule) => covers(rule.levels, levels, user))?.subscribe
    },
    authorizeOpenForward: ({ user }, topic) => {
      if (targetOf(topic).kind !== 'open') return false
      return ruleFor(topic, user)?.subscribe
    },
  }
}

const compile = (rule: TopicRule): CompiledRule => ({
  levels: normalize(rule.topic.split('/')),
  publish: rule.publish === true,
  subscribe: rule.subscribe === true,
})

/** `#` alone matches every topic of one level or more, which is what `+/#` matches: one spelling makes them comparable. */
const normalize = (levels: readonly string[]): readonly string[] => (levels[0] === '#' ? ['+', '#'] : levels)

/**
 * True if the rule matches every topic that the filter matches; a topic is a filter without wildcards.
 * `{user}` of an anonymous caller (user '') matches nothing.
 */
function covers(rule: readonly string[], filter: readonly string[], user: string): boolean {
  if (user === '' && rule.includes(userLevel)) return false
  for (let at = 0; at < rule.length; at++) {
    const wanted = rule[at]
    if (wanted === '#') return true
    const level = filter[at]
    if (level === undefined || level === '#') return false
    if (wanted !== '+' && level !== (wanted === userLevel ? user : wanted)) return false
  }
  return filter.length === rule.length
}
