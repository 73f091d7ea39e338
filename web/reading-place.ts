/** Keeps the row that the reader looks at where it is, whatever is added, changed or removed above it. */

/** Runs `change`, which may rebuild the rows; they are found again by their keys. */
export function keepPlace(log: HTMLElement, rows: HTMLElement, change: () => void): void {
  const top = log.getBoundingClientRect().top
  let key: string | undefined
  let before = 0
  for (const row of rows.children) {
    const box = row.getBoundingClientRect()
    // Lines such as that of the day may move; a message does not.
    if (box.bottom <= top || !(row instanceof HTMLElement) || row.localName !== 'article') continue
    key = row.dataset.key
    before = box.top
    break
  }
  change()
  if (key === undefined) return
  for (const row of rows.children) {
    if (!(row instanceof HTMLElement) || row.dataset.key !== key) continue
    log.scrollTop += row.getBoundingClientRect().top - before
    return
  }
}
