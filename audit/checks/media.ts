/** Objects that messages name (I1, I5): who may read the message gets the bytes that were uploaded, everybody else nothing; after a recall nobody does. */
import type { History } from '../history.js'
import type { Report } from '../verdict.js'
import type { World } from './world.js'

export function checkMedia({ looks }: History, world: World, report: Report): void {
  for (const { user, conv, seq, status, isWhole } of looks) {
    const entries = world.log.get(conv)
    if (entries?.[seq]?.type !== 'file') continue
    const isRecalled = entries.some((entry) => entry?.type === 'recall' && (entry.body as { seq: number }).seq === seq)
    const name = `${user} looks at the file of ${conv} ${seq}`
    if (!world.mayRead(conv, user, seq) || isRecalled) {
      if (status === 200) report('leaked', `${name}${isRecalled ? ', which was recalled' : ', which is not for him'}`)
    } else if (status !== 200) report('lost', `${name} and is answered ${status}`)
    else if (!isWhole) report('changed', `${name} and gets other bytes than were uploaded`)
  }
}
