/** A broken program ends at once, whatever its threads wait for. */
import { spawn } from 'node:child_process'
import t from 'tap'

const program = (fault: string): string =>
  `import { endOnFault } from '${new URL('../broker/end-on-fault.js', import.meta.url)}'\nendOnFault()\nprocess.on('exit', () => { for (;;); })\nsetTimeout(() => {}, 1e6)\n${fault}`

for (const [name, fault] of Object.entries({
  'an exception that nobody catches': "setTimeout(() => { throw new Error('broken') })",
  'a rejection that nobody handles': "void Promise.reject(new Error('broken'))",
})) {
  t.test(name, async (t) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program(fault)], { stdio: ['ignore', 'ignore', 'pipe'] })
    t.teardown(() => child.kill('SIGKILL'))
    let told = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (told += text))
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on('close', (...how) => resolve(how)))
    t.same([code, signal], [null, 'SIGKILL'])
    t.match(told, /Error: broken\n +at /)
  })
}
