/** A process that stood still knows it before it handles what it reads next, and for a while after. */
import t from 'tap'
import { StallWatch } from '../broker/stall-watch.js'

t.test('it has stood still when its own timer is late, and is believed to have for five seconds', async (t) => {
  let nowMs = 1_000
  const watch = new StallWatch(() => nowMs)
  t.teardown(() => watch.stop())
  t.equal(watch.hasStood, false)
  nowMs += 2_900
  t.equal(watch.hasStood, false, 'busy')
  watch.tick()
  nowMs += 30_000
  t.equal(watch.hasStood, true, 'no timer has run since')
  watch.tick()
  nowMs += 2_000
  t.equal(watch.hasStood, true)
  watch.tick()
  nowMs += 2_900
  t.equal(watch.hasStood, true)
  watch.tick()
  nowMs += 200
  t.equal(watch.hasStood, false)
})
