/** The kinds of faults that a run can show. Any of them on Parley fails the tool; on a yardstick they are only told. */

export interface Faults {
  lost: number
  duplicates: number
  outOfOrder: number
  misdelivered: number
  seqFaults: number
  ackFaults: number
  rpcFaults: number
  connectionsLost: number
}

export const noFaults = (): Faults => ({
  lost: 0,
  duplicates: 0,
  outOfOrder: 0,
  misdelivered: 0,
  seqFaults: 0,
  ackFaults: 0,
  rpcFaults: 0,
  connectionsLost: 0,
})

export function addFaults(sum: Faults, more: Faults): void {
  for (const kind of Object.keys(sum) as (keyof Faults)[]) sum[kind] += more[kind]
}

export const faultCount = (faults: Faults): number => Object.values(faults).reduce((sum: number, count: number) => sum + count, 0)
