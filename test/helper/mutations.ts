/**
 * Broken builds of Parley for testing the audit itself: a copy of the compiled server in which one promise is broken by
 * replacing a string. A string that is not found, or found twice, is an error: then the code has changed, and the mutation
 * must be written anew.
 */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Mutation {
  /** What the broken server does. */
  title: string
  file: string
  find: string
  replace: string
}

export const mutations = {
  ackBeforeAppend: {
    title: 'acknowledges a message, and writes it a moment later',
    file: 'broker/log-writer.js',
    find: 'const started = performance.now();',
    replace: `await this.#answers.give(batch);
            Object.assign(batch, { written: [], duplicates: [], refused: [] });
            await new Promise((resolve) => setTimeout(resolve, 30));
            const started = performance.now();`,
  },
  ackBeforeWrite: {
    title: 'acknowledges a record of its journal before the write has returned',
    file: 'broker/store/lmdb/journal.js',
    find: 'await writeAll(file.fd, record, file.position);',
    replace: `const [copy, at] = [Buffer.from(record), file.position];
            setTimeout(() => void writeAll(file.fd, copy, at), 250);`,
  },
  noSecondStart: {
    title: 'does not come up again',
    file: 'broker/store/lmdb/journal.js',
    find: 'if (record.number !== this.#number + 1)',
    replace: 'if (true)',
  },
  failureTakenAsDone: {
    title: 'acknowledges what a full disk has not taken',
    file: 'broker/log-writer.js',
    find: 'return { fault };',
    replace: 'return noneLost;',
  },
  cursorBeforePuback: {
    title: 'moves the cursor of a session when it sends, not at PUBACK',
    file: 'broker/session.js',
    find: 'this.outlet.sendFrame(frame, this.inFlight.addMessage(conv, seq));',
    replace: 'this.outlet.sendFrame(frame, this.inFlight.addMessage(conv, seq)); if (this.persistent) this.moveCursor(conv, seq);',
  },
  noDedup: {
    title: 'does not know a message again',
    file: 'broker/write-batch.js',
    find: 'const earlier = sent[i];',
    replace: 'const earlier = undefined;',
  },
  noMembership: {
    title: 'lets everybody write to a group',
    file: 'plugins/messages.js',
    find: 'if (!isMember(group, this.from))',
    replace: 'if (false)',
  },
  noAuthor: {
    title: 'lets everybody recall and edit everything',
    file: 'plugins/messages.js',
    find: 'if (target.from === this.from)',
    replace: 'if (true)',
  },
  noBlocks: {
    title: 'stores what a blocked user sends',
    file: 'plugins/messages.js',
    find: 'state.bars.size > 0 && ',
    replace: 'false && ',
  },
  noDismissal: {
    title: 'goes on delivering to who was removed',
    file: 'broker/hub.js',
    find: 'this.#audiences.dismiss(conv, effect.record, entry.seq);',
    replace: 'void effect;',
  },
  noHandler: {
    title: 'has a rejection that nobody handles when a packet is malformed',
    file: 'broker/mqtt/validate.js',
    find: 'super(message);',
    replace: 'super(message); void Promise.reject(new Error(message));',
  },
  noTakeover: {
    title: 'lets the older session of a device live on beside the newer one',
    file: 'broker/hub.js',
    find: 'if (older !== undefined)',
    replace: 'if (false)',
  },
  noGapDetection: {
    title: 'gives out what another node has written without what was before it',
    file: 'broker/cluster/log-order.js',
    find: 'if (entry.seq > position + 1)',
    replace: 'if (false)',
  },
  noDigest: {
    title: 'names no conversation in its digests',
    file: 'broker/cluster/log-feed.js',
    find: 'const heads = [...this.#recent]',
    replace: 'const heads = []',
  },
  noLogCheck: {
    title: 'never asks the log what it has missed',
    file: 'broker/cluster/log-follower.js',
    find: 'this.#options.check.start();',
    replace: '',
  },
  noEpoch: {
    title: 'lets a device live on that has connected to another node since, whatever its epoch',
    file: 'broker/hub.js',
    find: 'session.epoch < epoch)',
    replace: 'session.epoch < 0)',
  },
  noUniqueIndex: {
    title: 'writes over what another node has written at the same place of a log',
    file: 'broker/store/mongodb/message-log.js',
    find: 'await this.#server.insertNew(this.#server.collections.messages, segments)',
    replace:
      '(await this.#server.collections.messages.bulkWrite(segments.map((replacement) => ({ replaceOne: { filter: { _id: replacement._id }, replacement, upsert: true } })), { ordered: false }), [])',
  },
  noWriteConcern: {
    title: 'appends with write concern 0',
    file: 'broker/store/mongodb/message-log.js',
    find: 'await this.#server.insertNew(this.#server.collections.messages, segments)',
    replace: '(await this.#server.collections.messages.insertMany(segments, { ordered: false, writeConcern: { w: 0 } }), [])',
  },
  neverOnline: {
    title: 'shows everybody offline',
    file: 'plugins/presence/value.js',
    find: 'if (isOnline(standing))',
    replace: 'if (false)',
  },
  caughtUpTooEarly: {
    title: 'takes a session that is behind as caught up after the first batch',
    file: 'broker/session.js',
    find: 'if (range.next > range.last)',
    replace: 'if (true)',
  },
} as const satisfies Record<string, Mutation>

const root = fileURLToPath(new URL('../../../', import.meta.url))
const parts = ['broker', 'plugins', 'web']

/** Makes the broken build in an empty folder; returns its cli.js. */
export function buildMutant(chosen: readonly Mutation[], folder: string): string {
  const build = join(folder, 'build')
  mkdirSync(build, { recursive: true })
  for (const part of parts) cpSync(join(root, 'build', part), join(build, part), { recursive: true })
  cpSync(join(root, 'package.json'), join(folder, 'package.json'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  for (const { file, find, replace } of chosen) {
    const path = join(build, file)
    const code = readFileSync(path, 'utf8')
    const found = code.split(find).length - 1
    if (found !== 1) throw new Error(`${file} has ${found} times what a mutation replaces, and not once: ${find}`)
    writeFileSync(
      path,
      code.replace(find, () => replace),
    )
  }
  return join(build, 'broker/cli.js')
}
