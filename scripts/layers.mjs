/** Holds the layers of docs/architecture.md: prints what imports what it must not, and exits with 1. Run by `npm run layers`. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cruise } from 'dependency-cruiser'
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const folders = ['broker', 'plugins', 'audit', 'loadtest', 'web', 'test']
/** With a TypeScript that it does not know dependency-cruiser sees no module and finds everything in order. */
const modulesMin = 30
/** The layers cannot be in order when the rules see no imports between files either. */
const importsMin = 100

const aedesFile = '^broker/(aedes-adapter|held-deliveries|store/open-topics-persistence|redis/open-(emitter|topics))\\.ts$'
const runtimeCycle = { dependencyTypesNot: ['type-only'] }

const rules = [
  {
    name: 'the broker knows no feature: only server.ts and cli.ts may import plugins/',
    from: { path: '^broker/', pathNot: '^broker/(server|cli)\\.ts$' },
    to: { path: '^plugins/' },
  },
  {
    name: 'plugins do not import each other; plugins/index.ts lists them',
    from: { path: '^plugins/[^/]+\\.ts$', pathNot: '^plugins/index\\.ts$' },
    to: { path: '^plugins/' },
  },
  {
    name: 'of a plugin that is a folder, its files know each other only',
    from: { path: '^plugins/([^/]+)/' },
    to: { path: '^plugins/', pathNot: '^plugins/$1/' },
  },
  {
    name: 'only aedes-adapter.ts and the state and emitter of open topics import Aedes and its parts',
    from: { path: '^(broker|plugins|web|audit)/', pathNot: aedesFile },
    to: { path: '(^|/)node_modules/(aedes[^/]*|mqemitter)/' },
  },
  {
    name: 'only redis/ imports ioredis and mqemitter-redis',
    from: { path: '^(broker|plugins|web|audit)/', pathNot: '^broker/redis/' },
    to: { path: '(^|/)node_modules/(ioredis|mqemitter-redis)/' },
  },
  {
    name: 'only store/lmdb/ imports lmdb',
    from: { path: '^(broker|plugins|web|loadtest|audit)/', pathNot: '^broker/store/lmdb/' },
    to: { path: '(^|/)node_modules/lmdb/' },
  },
  {
    name: 'only store/mongodb/ imports mongodb',
    from: { path: '^(broker|plugins|web|loadtest|audit)/', pathNot: '^broker/store/mongodb/' },
    to: { path: '(^|/)node_modules/mongodb/' },
  },
  {
    name: 'the MongoDB store is reached through mongodb-store.ts',
    from: { path: '^(broker|plugins|web|loadtest|audit)/', pathNot: '^broker/store/mongodb/' },
    to: { path: '^broker/store/mongodb/', pathNot: '^broker/store/mongodb/mongodb-store\\.ts$' },
  },
  {
    name: 'the LMDB store is reached through lmdb-store.ts',
    from: { path: '^(broker|plugins|web|loadtest|audit)/', pathNot: '^broker/store/lmdb/' },
    to: { path: '^broker/store/lmdb/', pathNot: '^broker/store/lmdb/lmdb-store\\.ts$' },
  },
  {
    name: 'web/, loadtest/ and audit/ are clients: of the broker they may import token.ts, topics.ts and operator-error.ts',
    from: { path: '^(web|loadtest|audit)/' },
    to: { path: '^(broker|plugins)/', pathNot: '^broker/(token|topics|operator-error)\\.ts$' },
  },
  {
    name: 'the checker is pure: at run time it has nothing but its checks, topics.ts and names of the cast',
    from: { path: '^audit/(checker\\.ts$|verdict\\.ts$|checks/)' },
    to: {
      path: '.',
      pathNot: '^(audit/(checks/|verdict\\.ts$|cast\\.ts$)|broker/topics\\.ts$)',
      dependencyTypesNot: ['type-only'],
    },
  },
  {
    name: 'what the checker takes names from has nothing at run time',
    from: { path: '^audit/cast\\.ts$' },
    to: { path: '.', dependencyTypesNot: ['type-only'] },
  },
  { name: 'no product file imports a test', from: { pathNot: '^test/' }, to: { path: '^test/' } },
  { name: 'no imports in a circle, apart from types', from: {}, to: { circular: true, viaOnly: runtimeCycle } },
  { name: 'every import resolves', from: {}, to: { couldNotResolve: true } },
]

const { output } = await cruise(
  folders,
  {
    baseDir: root,
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    validate: true,
    ruleSet: { forbidden: rules.map((rule) => ({ severity: 'error', ...rule })) },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
  {},
  { tsConfig: extractTSConfig(join(root, 'tsconfig.json')) },
)

const { modules, summary } = output
const own = modules.filter(({ source }) => folders.some((folder) => source.startsWith(`${folder}/`)))
const imports = own.flatMap(({ dependencies }) => dependencies).filter(({ resolved }) => folders.some((f) => resolved.startsWith(`${f}/`)))
const violations = summary.violations
for (const { rule, from, to, cycle } of violations) {
  const path = cycle === undefined ? to : cycle.map(({ name }) => name).join(' → ')
  process.stderr.write(`${from} → ${path}\n    ${rule.name}\n`)
}
if (own.length < modulesMin || imports.length < importsMin) {
  process.stderr.write(
    `Only ${own.length} modules with ${imports.length} imports were seen: the rules were not checked. Is TypeScript another version?\n`,
  )
  process.exitCode = 1
} else if (violations.length > 0) {
  process.stderr.write(`${violations.length} imports break the layers\n`)
  process.exitCode = 1
} else process.stdout.write(`layers: ${own.length} modules, ${imports.length} imports between them, all in order\n`)
