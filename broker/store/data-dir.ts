/**
 * The lock of a data directory: at most one live server uses it. The lock file names its holder by process id and start
 * time, so that a lock left by a killed process is taken over and one of a live process never is, even when its id was
 * given to another process since. The holder touches the file, for those who cannot see its process (another container).
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, realpathSync, renameSync, rmSync, statSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { makeDir } from '../make-dir.js'
import { OperatorError } from '../operator-error.js'

export interface DataDirLock {
  /** The directory, with links resolved. */
  dir: string
  release(): Promise<void>
}

interface Holder {
  pid: number
  host: string
  /** Start time of the process in kernel ticks, with the boot; '' where the system does not tell. */
  started: string
  token: string
}

const touchMs = 5_000
/** A lock from another host that was not touched for so long is stale. */
const touchMsMax = 20_000
/** Between taking over a stale lock and making sure that nobody else did. */
const settleMs = 50

const held = new Set<string>()

/** Creates the directory if needed (0700) and locks it; rejects with one line when it is in use or not writable. */
export async function lockDataDir(dir: string): Promise<DataDirLock> {
  const path = prepare(dir)
  const file = join(path, 'parley.lock')
  const me: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid), token: randomUUID() }
  if (!create(file, me)) {
    const holder = readHolder(file)
    if (holder !== undefined && isLive(holder, file)) throw new OperatorError(inUse(path, holder))
    await takeOver(path, file, me, holder)
  }
  held.add(me.token)
  const timer = setInterval(() => touch(file, me), touchMs)
  timer.unref()
  return {
    dir: path,
    release: async () => {
      clearInterval(timer)
      held.delete(me.token)
      if (readHolder(file)?.token === me.token) rmSync(file, { force: true })
    },
  }
}

function prepare(dir: string): string {
  try {
    makeDir(dir)
    const probe = join(dir, `.probe-${randomUUID()}`)
    writeFileSync(probe, '', { mode: 0o600 })
    unlinkSync(probe)
    return realpathSync(dir)
  } catch (error) {
    throw new OperatorError(`the data directory ${dir} cannot be written: ${(error as Error).message}`, { cause: error })
  }
}

function create(file: string, me: Holder): boolean {
  try {
    writeFileSync(file, JSON.stringify(me), { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw new OperatorError(`the lock ${file} cannot be written: ${(error as Error).message}`, { cause: error })
  }
}

/** undefined when there is none, or one that was cut short by a crash. */
function readHolder(file: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

/** Replaces a stale lock. Of several that try at once the last to write holds it, and the others see that. */
async function takeOver(path: string, file: string, me: Holder, stale: Holder | undefined): Promise<void> {
  const mine = `${file}.${me.token}`
  writeFileSync(mine, JSON.stringify(me), { mode: 0o600 })
  const now = readHolder(file)
  if (now !== undefined && now.token !== stale?.token) {
    unlinkSync(mine)
    throw new OperatorError(inUse(path, now))
  }
  renameSync(mine, file)
  await delay(settleMs)
  const holder = readHolder(file)
  if (holder?.token !== me.token) throw new OperatorError(inUse(path, holder))
}

function isLive(holder: Holder, file: string): boolean {
  if (holder.host !== hostname()) return Date.now() - statSync(file).mtimeMs < touchMsMax
  if (holder.pid === process.pid) return held.has(holder.token)
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  const started = startOf(holder.pid)
  return started === '' || holder.started === '' || started === holder.started
}

/** Boot id and field 22 of /proc/…/stat, which stands behind the name in parentheses. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${fields[19]}`
  } catch {
    return ''
  }
}

function touch(file: string, me: Holder): void {
  if (readHolder(file)?.token !== me.token) return
  const now = new Date()
  try {
    utimesSync(file, now, now)
  } catch {
    return // A disk that has become read-only: the store tells of it, and can still be read.
  }
}

function inUse(path: string, holder: Holder | undefined): string {
  const by = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`
  return `the data directory ${path} is in use by ${by}: stop that server first, or set PARLEY_DATA_DIR to another directory`
}
