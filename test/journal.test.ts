/**
 * The journal as a reader meets it after everything that can go wrong: a last record that was cut off at any byte, damage, missing
 * files, what is left of earlier uses, writes that failed, files removed under a running server.
 */
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { OperatorError } from '../broker/operator-error.js'
import { Journal, type JournalRecord, newReleased, recordHeadBytes } from '../broker/store/lmdb/journal.js'
import { createRandom, newSeed } from './contract/entries.js'
import { newDir } from './helper/new-dir.js'
import { smallDisk } from './helper/small-disk.js'

const newJournalDir = async (t: Test): Promise<string> => join(await newDir(t), 'journal')

interface Opened {
  journal: Journal
  found: JournalRecord[]
  texts: string[]
}

function open(t: Test, dir: string, released = 0): Opened {
  const found: JournalRecord[] = []
  const journal = new Journal(dir, { released, durable: 0 }, (record) => found.push(record))
  t.teardown(() => journal.close())
  return { journal, found, texts: found.map(({ body }) => body.toString()) }
}

/** What can be read, and nothing else; the directory is as before, but for an empty file. */
function textsIn(t: Test, dir: string, released = 0): string[] {
  const { journal, texts, found } = open(t, dir, released)
  journal.close()
  t.same(
    found.map(({ number }) => number),
    found.map((_, at) => released + 1 + at),
    'without a gap',
  )
  return texts
}

function recordOf(text: string): Buffer {
  return Buffer.concat([Buffer.alloc(recordHeadBytes, 0xee), Buffer.from(text)])
}

const append = (journal: Journal, text: string): Promise<number> => journal.append(recordOf(text))

const filesIn = (dir: string): string[] =>
  readdirSync(dir)
    .sort((a, b) => Number(a) - Number(b))
    .map((name) => join(dir, name))

/** The one file that has something in it. */
const usedFile = (dir: string): string => filesIn(dir).find((path) => statSync(path).size > 0) as string

/** The file descriptor of a path in this process, to make its writes fail. */
function fdOf(path: string): number {
  const { ino, dev } = statSync(path)
  for (let fd = 3; fd < 1_000; fd++) {
    try {
      const found = fstatSync(fd)
      if (found.ino === ino && found.dev === dev) return fd
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBADF') throw error
    }
  }
  throw new Error(`${path} is not open`)
}

/** Makes the writes to a file fail until the function returned is called: its descriptor is taken by one that is read only. */
function breakWrites(t: Test, path: string): () => void {
  const fd = fdOf(path)
  closeSync(fd)
  t.equal(openSync(path, 'r'), fd, 'the lowest free descriptor is given out')
  return () => {
    closeSync(fd)
    t.equal(openSync(path, 'r+'), fd)
  }
}

t.test('records come back in order, over files, generations and restarts', async (t) => {
  const dir = await newJournalDir(t)
  const all: string[] = []
  for (let round = 0; round < 4; round++) {
    const { journal, texts } = open(t, dir)
    t.same(texts, all)
    for (let i = 0; i < 5; i++) {
      const text = `${round}.${i}`.repeat(1 + i * 100)
      t.equal(await append(journal, text), all.push(text))
      if (i % 2 === 1) journal.turn()
    }
    journal.close()
    journal.close()
  }
})

t.test('an empty body, and one that looks like a record', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  const bodies = ['', 'a', recordOf('inner').toString('latin1'), '']
  for (const body of bodies) await append(journal, body)
  journal.close()
  t.same(textsIn(t, dir), bodies)
})

t.test('files are for the owner alone', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  await append(journal, 'one')
  journal.turn()
  await append(journal, 'two')
  t.equal(statSync(dir).mode & 0o777, 0o700)
  t.same(
    filesIn(dir).map((path) => statSync(path).mode & 0o777),
    [0o600, 0o600],
  )
})

t.test('a last record cut off at any byte was never told of, and is written over', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  for (const text of ['first', 'second', 'the third']) await append(journal, text)
  journal.close()
  const path = usedFile(dir)
  const whole = readFileSync(path)
  const ends = [0, recordHeadBytes + 5, 2 * recordHeadBytes + 11, whole.length]
  for (let length = 0; length <= whole.length; length++) {
    writeFileSync(path, whole.subarray(0, length))
    const count = ends.filter((end) => end > 0 && end <= length).length
    const { journal, texts } = open(t, dir)
    t.same(texts, ['first', 'second', 'the third'].slice(0, count), `${length} bytes`)
    t.equal(await append(journal, 'new'), count + 1)
    journal.close()
    t.same(textsIn(t, dir), [...texts, 'new'], `${length} bytes, and one behind`)
    for (const other of filesIn(dir)) if (other !== path) rmSync(other)
  }
})

t.test('a damaged byte: of the last record that record is missing, of an earlier one nothing is read', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  for (const text of ['first', 'second', 'the third']) await append(journal, text)
  journal.close()
  const path = usedFile(dir)
  const whole = readFileSync(path)
  const lastAt = 2 * recordHeadBytes + 11
  for (let at = 0; at < whole.length; at++) {
    for (const mask of [0x01, 0x80, 0xff]) {
      const damaged = Buffer.from(whole)
      damaged[at] = (damaged[at] as number) ^ mask
      writeFileSync(path, damaged)
      if (at >= lastAt) t.same(textsIn(t, dir), ['first', 'second'], `byte ${at}`)
      else t.throws(() => open(t, dir), new RegExp(`${path} is damaged at byte .*restore it from a backup`), `byte ${at}`)
    }
  }
  writeFileSync(path, whole)
  t.same(textsIn(t, dir), ['first', 'second', 'the third'], 'what was refused was left as it is')
})

t.test('a missing file is refused, and nothing of what is there is lost', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  for (const text of ['a', 'b', 'c', 'd', 'e', 'f']) {
    await append(journal, text)
    if (text === 'b' || text === 'd') journal.turn()
  }
  journal.close()
  const [first, second] = filesIn(dir) as [string, string]
  for (const missing of [first, second]) {
    renameSync(missing, `${missing}.away`)
    t.throws(() => open(t, dir), OperatorError)
    t.throws(() => open(t, dir), /has no record \d, but \d: restore it from a backup/)
    renameSync(`${missing}.away`, missing)
  }
  t.same(textsIn(t, dir), ['a', 'b', 'c', 'd', 'e', 'f'])
  rmSync(first)
  t.same(textsIn(t, dir, 2), ['c', 'd', 'e', 'f'], 'one of which all is released is not missed')
  t.throws(() => open(t, dir, 1), OperatorError)
})

t.test('what a file held before is never read as new, whatever the lengths', async (t) => {
  for (const [name, lengthOf] of Object.entries({ equal: () => 40, growing: (n: number) => 10 + n, shrinking: (n: number) => 400 - n })) {
    const dir = await newJournalDir(t)
    const first = open(t, dir)
    let { journal } = first
    let number = 0
    let released = 0
    let written: string[] = []
    for (let generation = 0; generation < 8; generation++) {
      const count = [9, 3, 1, 6, 2, 9, 1, 4][generation] as number
      const before = written
      written = []
      for (let i = 0; i < count; i++) {
        const text = `${generation}.${i}`.padEnd(lengthOf(number), '-')
        number = await append(journal, text)
        written.push(text)
        // The generation before is not released yet when this one begins.
        const copy = `${dir}.${generation}.${i}`
        await cp(dir, copy, { recursive: true })
        t.same(textsIn(t, copy, released), [...before, ...written], `${name}, generation ${generation}`)
      }
      released = number - count
      journal.release(released)
      journal.turn()
      if (generation % 3 === 2) {
        journal.close()
        ;({ journal } = open(t, dir, released))
        // All that is found at start is one generation.
        journal.turn()
      }
    }
    t.ok(filesIn(dir).length <= 5, `${filesIn(dir).length} files`)
  }
})

t.test('a record torn at any byte in a file that held others', async (t) => {
  const dir = await newJournalDir(t)
  let { journal } = open(t, dir)
  for (const text of ['old one', 'old two', 'old three']) await append(journal, text)
  journal.close()
  const path = usedFile(dir)
  const old = readFileSync(path)
  for (const other of filesIn(dir)) if (other !== path) rmSync(other)
  ;({ journal } = open(t, dir, 3))
  for (const text of ['new one', 'new two']) await append(journal, text)
  journal.close()
  const fresh = readFileSync(path)
  t.equal(filesIn(dir).length, 1, 'the file was used again')
  const end = 2 * (recordHeadBytes + 7)
  const expected = ['new one', 'new two']
  for (let from = 0; from <= end; from++) {
    // Of what was written only the bytes before `from` reached the disk.
    writeFileSync(path, Buffer.concat([fresh.subarray(0, from), old.subarray(from)]))
    const isTwo = old.subarray(from, end).equals(fresh.subarray(from, end))
    const isOne = isTwo || from >= end / 2 || old.subarray(from, end / 2).equals(fresh.subarray(from, end / 2))
    t.same(textsIn(t, dir, 3), expected.slice(0, isTwo ? 2 : isOne ? 1 : 0), `${from} bytes`)
    for (const other of filesIn(dir)) if (other !== path) rmSync(other)
  }
})

t.test('what a client writes into a record is not taken for a record', async (t) => {
  const dir = await newJournalDir(t)
  const released = newReleased()
  const { journal } = open(t, dir, released)
  // A good record of a journal whose numbers begin at 0: all that anybody can know how to make.
  const forgedDir = await newJournalDir(t)
  const forger = open(t, forgedDir)
  for (let i = 0; i < 20; i++) await append(forger.journal, 'a')
  forger.journal.close()
  const forged = readFileSync(usedFile(forgedDir))
  const number = await append(journal, forged.toString('latin1'))
  await journal.append(Buffer.concat([Buffer.alloc(recordHeadBytes), forged]))
  journal.close()
  const path = usedFile(dir)
  const whole = readFileSync(path)
  // The file is used again, and ends anywhere in what it held.
  for (let at = recordHeadBytes; at < whole.length; at += 7) {
    writeFileSync(path, whole.subarray(at))
    t.same(open(t, dir, number + 1).texts, [])
  }
})

t.test('a write that fails leaves the next one right', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  await append(journal, 'one')
  const path = usedFile(dir)
  const mend = breakWrites(t, path)
  await t.rejects(append(journal, 'never written'), { code: 'EBADF' })
  await t.rejects(append(journal, 'nor this'), { code: 'EBADF' })
  mend()
  t.equal(await append(journal, 'two'), 2)
  journal.close()
  t.same(textsIn(t, dir), ['one', 'two'])
})

t.test('a record that failed and is on disk all the same does not stand in the way of the next file', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  await append(journal, 'one')
  const path = usedFile(dir)
  const twin = await newJournalDir(t)
  const other = open(t, twin)
  for (const text of ['one', 'was on disk']) await append(other.journal, text)
  const landed = readFileSync(usedFile(twin))
  const mend = breakWrites(t, path)
  const failing = append(journal, 'was on disk')
  // A generation is full while the write is under way, and another afterwards.
  journal.turn()
  await t.rejects(failing)
  writeFileSync(path, landed)
  mend()
  journal.turn()
  t.equal(await append(journal, 'two'), 2)
  t.equal(await append(journal, 'three'), 3)
  journal.close()
  t.same(textsIn(t, dir), ['one', 'two', 'three'])
})

t.test('more than two free files are removed, and the others used again', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  for (let number = 1; number <= 6; number++) {
    await append(journal, `record ${number}`)
    journal.turn()
  }
  t.equal(filesIn(dir).length, 6)
  journal.release(3)
  t.equal(filesIn(dir).length, 5, 'two are kept, one is removed')
  journal.release(5)
  t.equal(filesIn(dir).length, 3)
  for (let number = 7; number <= 9; number++) {
    t.equal(await append(journal, `record ${number}`), number)
    journal.release(number - 1)
    journal.turn()
  }
  t.ok(filesIn(dir).length <= 4)
  journal.close()
  t.same(textsIn(t, dir, 8), ['record 9'])
})

t.test('a file that cannot be made keeps the records where they are', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  await append(journal, 'one')
  renameSync(dir, `${dir}.away`)
  journal.turn()
  await t.rejects(append(journal, 'two'), { code: 'ENOENT' })
  journal.release(1)
  renameSync(`${dir}.away`, dir)
  t.equal(await append(journal, 'two'), 2)
  t.equal(await append(journal, 'three'), 3)
  journal.close()
  t.same(textsIn(t, dir), ['one', 'two', 'three'])
})

t.test('a file removed or replaced is noticed', async (t) => {
  const dir = await newJournalDir(t)
  const { journal } = open(t, dir)
  await append(journal, 'one')
  t.ok(journal.isInPlace)
  const path = usedFile(dir)
  const bytes = readFileSync(path)
  renameSync(path, `${path}.away`)
  t.notOk(journal.isInPlace)
  writeFileSync(path, bytes)
  t.notOk(journal.isInPlace, 'a copy is another file')
  renameSync(`${path}.away`, path)
  t.ok(journal.isInPlace)
})

t.test('a full disk cuts a record off, and the next is right', async (t) => {
  const disk = await smallDisk(t)
  if (disk === undefined) return
  const dir = join(disk, 'journal')
  const { journal } = open(t, dir)
  await append(journal, 'one')
  const size = 4 * 1024 * 1024
  await append(journal, 'x'.repeat(size))
  await t.rejects(append(journal, 'y'.repeat(size)), { code: 'ENOSPC' })
  t.equal(await append(journal, 'three'), 3)
  await t.rejects(append(journal, 'z'.repeat(size)), { code: 'ENOSPC' })
  journal.close()
  const texts = textsIn(t, dir)
  t.same([texts.length, texts[0], texts[1]?.length, texts[2]], [3, 'one', size, 'three'])
})

t.test('at random: what was appended is what is found', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const dir = await newJournalDir(t)
  let released = newReleased()
  let { journal } = open(t, dir, released)
  let kept: { number: number; text: string }[] = []
  /** Last numbers of what was turned and is not released. */
  let turned: number[] = []
  let number = released
  for (let step = 0; step < 1_500; step++) {
    const choice = random(20)
    if (choice < 14) {
      const text = `${step}`.padEnd(random(3) === 0 ? 64 : random(2_000), 'x')
      number = await append(journal, text)
      kept.push({ number, text })
    } else if (choice < 17) {
      journal.turn()
      turned.push(number)
    } else if (choice < 19 && turned.length > 0) {
      released = turned.shift() as number
      journal.release(released)
      kept = kept.filter((record) => record.number > released)
    } else {
      journal.close()
      const opened = open(t, dir, released)
      journal = opened.journal
      if (opened.texts.join() !== kept.map(({ text }) => text).join()) return t.same(opened.texts, kept, `step ${step}`)
      turned = []
    }
  }
  t.ok(filesIn(dir).length < 200)
})
