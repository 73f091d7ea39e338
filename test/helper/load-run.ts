/** Runs the load tool as a program, as an operator does, and gives the figures of its first broker. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Figures } from '../../loadtest/figures.js'

const main = fileURLToPath(new URL('../../loadtest/main.js', import.meta.url))

/** Fails, with all that it printed, when the tool does. */
export async function figuresOf(line: string): Promise<Figures> {
  const child = spawn(process.execPath, [main, ...line.split(' '), '--json', '-'])
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code !== 0) throw new Error(`loadtest ${line} ended with ${code}:\n${stderr}`)
  return JSON.parse(stdout).brokers[0].runs[0] as Figures
}
