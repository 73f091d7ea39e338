/** The load tool as a program, on the yardstick that stores nothing: both scenarios end to end, and a wrong command line. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const main = fileURLToPath(new URL('../loadtest/main.js', import.meta.url))

function loadtest(line: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [main, ...line.split(' ')])
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })))
}

const brief = '--seconds 0.4 --warmup 0.1 --json -'

t.test('direct, two runs on a sink by two processes', async (t) => {
  const { code, stdout, stderr } = await loadtest(`direct --peer-only sink --clients 8 --processes 2 --runs 2 ${brief}`)
  t.equal(code, 0, stderr)
  const { brokers, parameters, machine } = JSON.parse(stdout)
  t.match(brokers, [{ broker: 'sink', runs: [{}, {}] }])
  for (const run of brokers[0].runs) {
    t.equal(run.delivered, run.sent)
    t.ok(run.sent > 0)
  }
  t.match(parameters, { clients: 8, inFlight: 16, runs: 2 })
  t.notOk('secret' in parameters)
  t.equal(machine.node, process.version)
  t.match(stderr, /messages\/s/)
})

t.test('group with offline and frozen members: everybody online gets everything', async (t) => {
  const { code, stdout, stderr } = await loadtest(`group --peer-only sink --members 10 --senders 2 --offline 3 --frozen 2 ${brief}`)
  t.equal(code, 0, stderr)
  const [run] = JSON.parse(stdout).brokers[0].runs
  t.ok(run.sent > 0)
  t.equal(run.delivered, run.sent * 10)
  t.ok(run.deliveriesPerSecondBeforeFreeze > 0)
})

t.test('a wrong flag is named and nothing is started', async (t) => {
  const { code, stderr } = await loadtest('direct --clients 3')
  t.equal(code, 1)
  t.match(stderr, /--clients is 3; it must be even/)
})
