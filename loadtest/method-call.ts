/** Calls of methods by load clients: the reply is parsed, and a refusal is thrown. */
import type { LeanClient } from './lean-client.js'

export async function callMethod(client: LeanClient, method: string, params: object): Promise<object> {
  const reply = await client.call(method, params)
  const parsed = JSON.parse(reply) as { result?: object; error?: object }
  if (parsed.error !== undefined || parsed.result === undefined) throw new Error(`rpc/${method} was refused: ${reply.slice(0, 300)}`)
  return parsed.result
}

/** What is wrong with a page of history, if anything: it must be within the head, and gap-free unless actions are folded into it. */
export function faultOfHistory(page: object, kind: 'history' | 'folded'): string | undefined {
  const { messages, head } = page as { messages?: { seq?: number }[]; head?: number }
  if (!Array.isArray(messages) || typeof head !== 'number') return 'it has no messages or no head'
  const seqs = messages.map(({ seq }) => seq ?? Number.NaN)
  const gap = seqs.findIndex(
    (seq, index) => index > 0 && (kind === 'folded' ? seq <= (seqs[index - 1] as number) : seq !== (seqs[index - 1] as number) + 1),
  )
  if (gap !== -1) return `seq ${seqs[gap]} follows ${seqs[gap - 1]}`
  const last = seqs.at(-1)
  return last !== undefined && !(last <= head) ? `seq ${last} is beyond the head ${head}` : undefined
}
