/**
 * Holds the documents equal to the code: topics.md, docs/operations.md, docs/dependencies.md, and the commands, links and
 * file names that the documents mention. docs/configuration.md has its own test beside the configuration.
 */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Registry } from 'prom-client'
import t from 'tap'
import { LocalBus } from '../broker/bus.js'
import { readConfig } from '../broker/config.js'
import { errorCodes } from '../broker/errors.js'
import { createLogger } from '../broker/logger.js'
import { createMetrics } from '../broker/metrics.js'
import { messageTypes } from '../broker/payloads.js'
import type { Plugin, PluginServer } from '../broker/plugin.js'
import { topicTable } from '../broker/topics.js'
import { builtInPlugins } from '../plugins/index.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string): string => readFileSync(join(root, path), 'utf8')

const topics = read('topics.md')
const readme = read('README.md')
const documents = [
  'README.md',
  'topics.md',
  'docs/architecture.md',
  'docs/configuration.md',
  'docs/dependencies.md',
  'docs/loadtest.md',
  'docs/operations.md',
  'docs/plugins.md',
  'docs/prove.md',
]

/** What stands under a heading, up to the next one of the same or a higher level. */
function section(text: string, heading: string): string {
  const level = heading.indexOf(' ')
  const start = text.indexOf(`\n${heading}\n`)
  if (start === -1) throw new Error(`there is no heading "${heading}"`)
  const rest = text.slice(start + heading.length + 2)
  const end = rest.search(new RegExp(`^#{1,${level}} `, 'm'))
  return end === -1 ? rest : rest.slice(0, end)
}

/** The cells of every table row in the text, without headings and rules. */
function rows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|'))
  const isRule = (line: string | undefined): boolean => /^\|[\s|:-]+\|$/.test(line ?? '')
  const body = lines.filter((line, at) => !isRule(line) && !isRule(lines[at + 1]))
  return body.map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

const plain = (cell: string | undefined): string => (cell ?? '').replaceAll('`', '')
const blocks = (text: string, kind: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${kind}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, code]) => code as string)

t.test('topics.md has every topic, as topics.ts has it', async (t) => {
  const documented = rows(section(topics, '## Topics')).map(([topic, qos, meaning]) => ({ topic: plain(topic), qos: Number(qos), meaning }))
  const known = topicTable.map(({ topic, qos, meaning }) => ({ topic, qos, meaning }))
  t.same(documented, known)
})

t.test('topics.md has every error, as errors.ts has it', async (t) => {
  const documented = rows(section(topics, '## Errors')).map(([code, http, retry, means]) => ({
    code: plain(code),
    http: Number(http),
    retry: retry === 'yes',
    means,
  }))
  t.same(
    documented,
    Object.entries(errorCodes).map(([code, { http, retry, means }]) => ({ code, http, retry, means })),
  )
})

t.test('topics.md has every type of message', async (t) => {
  const documented = rows(section(topics, '### Sent')).map(([type]) => plain(type))
  t.same(
    messageTypes.filter((type) => !documented.includes(type)),
    [],
  )
  t.ok(documented.includes('system'))
})

/** The built-in plugins, none of them started; their metrics go into `registry`. */
function plugins(registry: Registry): Plugin[] {
  const config = readConfig({}, { jwtSecret: 'a-secret-of-at-least-thirty-two-bytes' })
  const server = {
    config,
    logger: createLogger('silent'),
    store: { log: {}, directory: {}, sessions: {}, records: {} },
    log: {},
    hub: {},
    bus: new LocalBus('test'),
    registry,
  }
  return builtInPlugins.map((create) => create(server as unknown as PluginServer))
}

t.test('topics.md has every method of the built-in plugins, and no other', async (t) => {
  const methods = plugins(new Registry()).flatMap(({ methods }) => Object.keys(methods ?? {}))
  const documented = [...section(topics, '## Methods').matchAll(/^### `(.*)`$/gm)].map(([, name]) => name as string)
  t.ok(methods.length > 5)
  t.same([...documented].sort(), [...methods].sort())
})

t.test('the JSON in the documents is JSON', async (t) => {
  for (const path of documents) {
    for (const code of blocks(read(path), 'json')) {
      // One value over several lines, or a value on each line.
      const values = /^[{[]\s*$|^\{ /.test(code.split('\n')[0] ?? '') ? [code] : code.trim().split('\n')
      for (const value of values) t.doesNotThrow(() => JSON.parse(value), `${path}: ${value.slice(0, 60)}`)
    }
  }
  t.ok(blocks(topics, 'json').length > 10)
})

t.test('docs/operations.md explains every metric, and no other', async (t) => {
  const metrics = createMetrics()
  metrics.watch({ sessions: () => 0, behind: () => 0, waiting: () => 0, unsaved: () => 0, certificateExpiresMs: () => 0 })
  plugins(metrics.registry)
  const names = metrics.registry.getMetricsAsArray().map(({ name }) => name)
  const own = names.filter((name) => !/^parley_(process|nodejs)_/.test(name))
  const operations = read('docs/operations.md')
  const documented = rows(section(operations, '## Metrics'))
    .map(([name]) => /^`(parley_\w+)(\{.*\})?`$/.exec(name ?? '')?.[1])
    .filter((name) => name !== undefined && own.includes(name))
  t.same([...new Set(documented)].sort(), [...own].sort())
  const mentioned = [...operations.matchAll(/parley_[a-z_0-9]*[a-z0-9]/g)].map(([name]) => name)
  const exists = (mention: string): boolean => names.includes(mention)
  t.same(
    mentioned.filter((mention) => !exists(mention)),
    [],
    'metrics that do not exist',
  )
})

t.test('docs/dependencies.md has every dependency with its version and licence, and no other', async (t) => {
  const manifest = JSON.parse(read('package.json')) as Record<'dependencies' | 'devDependencies' | 'overrides', Record<string, string>>
  const text = read('docs/dependencies.md')
  const sections = {
    dependencies: '## What the server uses',
    devDependencies: '## What development uses',
    overrides: '## Overrides',
  } as const
  for (const [kind, heading] of Object.entries(sections) as [keyof typeof sections, string][]) {
    const documented = rows(section(text, heading))
    t.same(Object.fromEntries(documented.map(([name, version]) => [plain(name), version])), manifest[kind], kind)
    for (const [name, , licence, reason] of documented) {
      const installed = JSON.parse(read(`node_modules/${plain(name)}/package.json`)) as { license: string }
      t.equal(licence, installed.license, `licence of ${plain(name)}`)
      t.ok(reason, `reason of ${plain(name)}`)
    }
  }
})

t.test('the commands of the documents exist', async (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const helps = new Map<string, Promise<string>>()
  const help = (path: string, command: string): Promise<string> => {
    const program = fileURLToPath(new URL(path, import.meta.url))
    const known =
      helps.get(path + command) ?? promisify(execFile)(process.execPath, [program, command, '--help']).then(({ stdout }) => stdout)
    helps.set(path + command, known)
    return known
  }
  for (const path of documents) {
    const text = read(path)
    for (const [, name] of text.matchAll(/npm run ([\w:-]+)/g)) t.ok(name !== undefined && name in scripts, `${path}: npm run ${name}`)
    for (const [, name] of text.matchAll(/npm (start|test)\b/g)) t.ok(name !== undefined && name in scripts, `${path}: npm ${name}`)
    for (const [, line] of text.matchAll(/(?:`|npx |^)parley ((?:start|token|[a-z]+)\b[^`\n)]*)/gm)) {
      const [command = '', ...rest] = (line as string).trim().split(/\s+/)
      if (!/^(npx )?[a-z]+$/.test(command)) continue
      const usage = await help('../broker/cli.js', command)
      t.match(usage, new RegExp(`Usage: parley ${command}`), `${path}: parley ${command}`)
      for (const flag of rest.filter((word) => word.startsWith('--'))) t.ok(usage.includes(flag), `${path}: parley ${command} ${flag}`)
    }
    for (const [, scenario, line] of text.matchAll(/npm run loadtest -- ([\w-]+)([^`\n]*)/g)) {
      const usage = await help('../loadtest/main.js', scenario as string)
      t.match(usage, new RegExp(`Usage: \\w+ ${scenario}`), `${path}: loadtest ${scenario}`)
      for (const [flag] of (line as string).matchAll(/--[a-z-]+/g))
        t.ok(flag === '--help' || usage.includes(flag), `${path}: ${scenario} ${flag}`)
    }
  }
  t.match(readme, /npm ci && npm start/)
})

t.test('the links of the documents lead somewhere', async (t) => {
  const anchors = (path: string): string[] =>
    [...read(path).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      (title as string)
        .toLowerCase()
        .replace(/[^\w\s-]/g, '')
        .trim()
        .replaceAll(' ', '-'),
    )
  for (const path of documents) {
    for (const [, target] of read(path).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target === undefined || /^https?:/.test(target)) continue
      const [file = '', anchor] = target.split('#')
      const linked = file === '' ? path : join(dirname(path), file)
      t.ok(existsSync(join(root, linked)), `${path}: ${target}`)
      if (anchor !== undefined) t.ok(anchors(linked).includes(anchor), `${path}: ${target}`)
    }
  }
})

t.test('the files that docs/architecture.md names are there', async (t) => {
  const text = read('docs/architecture.md')
  const named = [...text.matchAll(/`((?:broker|plugins|web|loadtest|test|docs)\/[\w./-]*)`/g)].map(([, path]) => path as string)
  t.ok(named.length > 20)
  t.same(
    named.filter((path) => !existsSync(join(root, path))),
    [],
  )
})
