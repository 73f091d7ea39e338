/** What could be read back (I2, I4, I5): by history and by sync each user sees exactly what he may see, in order. */
import type { EventOf, History } from '../history.js'
import type { Report } from '../verdict.js'
import type { World } from './world.js'

export function checkReads({ reads }: History, world: World, report: Report): void {
  for (const read of reads) if (world.log.has(read.conv)) checkRead(read, world, report)
}

function checkRead({ user, conv, by, from, to, runs }: EventOf<'read'>, world: World, report: Report): void {
  const name = `${user} reads ${conv} by ${by}`
  const logHead = Math.max(0, (world.log.get(conv)?.length ?? 1) - 1)
  const head = Math.min(to, logHead)
  if (to > logHead) report('lost', `${name} up to ${to}, and the log ends with ${logHead}`)
  if (to > 0 && to <= logHead && !world.mayRead(conv, user, to)) report('leaked', `${name} and is told of ${to}, which ${user} may not see`)
  const shown = new Uint8Array(head + 2)
  let last = 0
  for (const [first, end] of runs) {
    if (first <= last) report('reordered', `${name}: ${first} after ${last}`)
    for (let seq = first; seq <= end; seq++) {
      if (seq <= head) shown[seq] = 1
      if (!world.mayRead(conv, user, seq)) report('leaked', `${name}: ${seq}, which ${user} may not see`)
    }
    last = Math.max(last, end)
  }
  for (let seq = from; seq <= head; seq++) {
    if (shown[seq] === 1 || !world.mayRead(conv, user, seq) || world.log.get(conv)?.[seq] === undefined) continue
    return report('lost', `${name} and is not shown ${seq}`)
  }
}
