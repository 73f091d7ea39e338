/** Finds the name that was meant by a mistyped one. Used for the faults that the configuration reports. */

const editsMax = 3

/** The known name that needs the fewest edits, if they are few; the first of several equal ones. */
export function nearMiss(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let fewest = editsMax + 1
  for (const candidate of known) {
    const edits = distance(name.slice(0, 100), candidate)
    if (edits < fewest) [best, fewest] = [candidate, edits]
  }
  return best
}

/** Levenshtein: insertions, deletions and replacements that turn `a` into `b`. */
function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(replaced, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    previous = row
  }
  return previous[b.length] ?? 0
}
