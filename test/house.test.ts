/**
 * The rules of the house that neither the compiler nor the linter holds: size of files, topics spelled in one place, no
 * dead files, nothing of the machine that something was written on. Each rule is first shown a text that breaks it.
 */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { subscriptionPatterns, topicTable } from '../broker/topics.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const sourceFolders = ['broker', 'plugins', 'audit', 'loadtest', 'web', 'scripts', 'test']
const skipped = new Set(['node_modules', 'build', 'dist', 'data', 'coverage', 'package-lock.json'])
const textKinds = new Set(['.ts', '.mjs', '.js', '.json', '.md', '.html', '.css', '.svg', '.yml', '.sh', ''])
/** The rule is for what is read to understand Parley; a test may tell a long story. */
const linesMax = 400

function walk(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`
    if (skipped.has(entry.name) || (entry.name.startsWith('.') && entry.name !== '.ci')) return []
    if (entry.isDirectory()) return walk(path)
    return entry.isFile() ? [path] : []
  })
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const allFiles = walk('')
const sources = allFiles.filter((path) => /\.(ts|mjs)$/.test(path) && sourceFolders.includes(path.split('/')[0] as string))
const product = sources.filter((path) => /^(broker|plugins)\//.test(path))

/** The code without comments. A `//` inside a string is taken for a comment only when a space stands before it. */
const codeOf = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')

type Rule = (text: string) => string[]

const matches = (pattern: RegExp, text: string): string[] => [...text.matchAll(pattern)].map(([found]) => found.trim())

const routePatterns = new Set<string>([
  ...topicTable.filter(({ direction }) => direction === 'publish').map(({ topic }) => topic),
  ...subscriptionPatterns,
])
const leaves = [...new Set(topicTable.map(({ topic }) => topic.split('/')[2] ?? 'rpc'))].join('|')
const topicLiteral = new RegExp(`(['"\`])(?:(?:u|g|rpc)/[$+#{\\w][^\\s'"\`]*|[^\\s'"\`]*\\}/(?:${leaves})|/(?:${leaves}))\\1`, 'g')

const rules: Record<string, Rule> = {
  size: (text) => {
    const lines = text.split('\n').length - 1
    return lines > linesMax ? [`${lines} lines, at most ${linesMax}: it is about more than one thing`] : []
  },
  topics: (text) => matches(topicLiteral, codeOf(text)).filter((literal) => !routePatterns.has(literal.slice(1, -1))),
  any: (text) => matches(/(?::|\bas|<|\|)\s*any\b(?!\w)/g, codeOf(text).replace(/(['"`]).*?\1/g, '')),
  defaultExport: (text) => matches(/export default .*|export \{[^}]*\bas default\b[^}]*\}/g, codeOf(text)),
  emptyCatch: (text) => matches(/catch\s*(?:\([^)]*\))?\s*\{\s*\}/g, codeOf(text)),
  later: (text) => matches(new RegExp(`\\b(?:TO${'DO'}|FIX${'ME'}|XX${'X'}|HA${'CK'})\\b`, 'g'), text),
  names: (text) => matches(/class \w*(?:Manager|Helper|Utils?)\b/g, codeOf(text)),
  header: (text) => (/^(#!.*\n)?\/\*\*/.test(text) ? [] : ['it does not begin with a comment that says what it is for']),
  machine: (text) => matches(/(?<![\w.~}$])\/(?:work|tmp|home|root|Users|workspace)\/[\w.-]+|registry\.[a-z]+\.[a-z]+/g, text),
}

const breaches: Record<keyof typeof rules, string[]> = {
  size: ['\n'.repeat(linesMax + 1)],
  topics: [
    'send(`u/$'.concat('{user}/msg`)'),
    "topic === 'g/team/msg'",
    '`$'.concat('{conv}/ack`'),
    "topic.endsWith('/read')",
    'a = "rpc/+"',
  ],
  any: ['let x: any', 'x as any', 'Map<any>'],
  defaultExport: ['export default x', 'export { x as default }'],
  emptyCatch: ['try { a() } catch {}', 'try { a() } catch (error) { /* quiet */ }'],
  later: [`// TO${'DO'}: later`],
  names: ['class SessionManager {', 'class TopicUtils {'],
  header: ['import x from "y"'],
  machine: [`see /${'work'}/main`, `'/${'tmp'}/x'`],
}

t.test('each rule sees what breaks it', async (t) => {
  for (const [name, texts] of Object.entries(breaches)) {
    for (const text of texts) t.not(rules[name]?.(text).length, 0, `${name}: ${text.trim().slice(0, 60)}`)
  }
  t.same(rules.topics?.("routes: { 'u/{peer}/msg': send, 'rpc/{method}': call }"), [], 'plugins name the routes that they own')
  t.same(rules.topics?.('refuse(`you are not a member of g/$'.concat('{group}`)')), [], 'words for people may have an address in them')
})

function holds(title: string, rule: keyof typeof rules, files: readonly string[]): void {
  t.test(title, async (t) => {
    const found = files.flatMap((path) => (rules[rule]?.(read(path)) ?? []).map((what) => `${path}: ${what}`))
    t.same(found, [], `${files.length} files`)
  })
}

t.test('there are files to look at', async (t) => {
  t.ok(product.length > 50, `${product.length} product files`)
  t.ok(sources.length > 100, `${sources.length} source files`)
})

const self = 'test/house.test.ts'
const others = sources.filter((path) => path !== self)

holds(
  `no source file has more than ${linesMax} lines`,
  'size',
  sources.filter((path) => !path.startsWith('test/')),
)
holds(
  'topics are spelled in broker/topics.ts alone',
  'topics',
  product.filter((path) => path !== 'broker/topics.ts'),
)
holds('no any', 'any', others)
holds(
  'no default exports',
  'defaultExport',
  others.filter((path) => !path.endsWith('.d.ts')),
)
holds('no empty catch', 'emptyCatch', others)
holds('nothing is left for later', 'later', others)
holds('classes are named for what they are', 'names', others)
holds('every product file says what it is for', 'header', product)
holds(
  'nothing of one machine is written down',
  'machine',
  allFiles.filter((path) => textKinds.has(extname(path))),
)

t.test('every file and every package is used', async (t) => {
  const require = createRequire(import.meta.url)
  const knip = join(require.resolve('knip'), '../../bin/knip.js')
  const report = await promisify(execFile)(
    process.execPath,
    [knip, '--include', 'files,dependencies,unlisted,unresolved', '--no-progress', '--no-config-hints'],
    {
      cwd: root,
    },
  ).then(
    () => '',
    ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr,
  )
  t.equal(report.trim(), '', 'knip has nothing to say')
})
