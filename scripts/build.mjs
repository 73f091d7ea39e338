/** Compiles the server, its tools and the chat page into build/; with `tests` also these. Fast when nothing changed. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const code = process.argv[2] === 'tests' ? 'tsconfig.json' : 'tsconfig.build.json'
for (const project of [code, 'web/tsconfig.json']) {
  const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, project)], { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
mkdirSync(join(root, 'build/web'), { recursive: true })
for (const file of ['index.html', 'style.css', 'icon.svg']) cpSync(join(root, 'web', file), join(root, 'build/web', file))
