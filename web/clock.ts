/** Times as people read them, in the browser's language. */
const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long' })
const shortDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' })
const longDate = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' })

const dayMs = 86_400_000

/** Days between two local midnights. */
export function daysAgo(ts: number): number {
  return Math.round((new Date().setHours(0, 0, 0, 0) - new Date(ts).setHours(0, 0, 0, 0)) / dayMs)
}

export const timeOf = (ts: number): string => time.format(ts)
export const fullTimeOf = (ts: number): string => full.format(ts)

export function dayOf(ts: number): string {
  const days = daysAgo(ts)
  return days === 0 ? 'Today' : days === 1 ? 'Yesterday' : longDate.format(ts)
}

/** Short, for the list of conversations. */
export function ageOf(ts: number): string {
  const days = daysAgo(ts)
  if (days <= 0) return time.format(ts)
  if (days === 1) return 'Yesterday'
  return days < 7 ? weekday.format(ts) : shortDate.format(ts)
}
