/**
 * Shows what the tool is doing: on a terminal a bar that redraws itself with the live figures of the last second, elsewhere a line every
 * two seconds. Writes to stderr.
 */

const barWidth = 24
const lineEveryMs = 2_000
const columnsDefault = 120

export interface Progress {
  /** What is being run, such as `parley, run 2 of 3`. */
  title(title: string): void
  phase(name: string): void
  /** How much of the present phase is done, 0…1. */
  share(share: number): void
  /** What was seen in the last second. */
  live(line: string): void
  end(): void
}

export function createProgress(stream: NodeJS.WriteStream): Progress {
  let title = ''
  let phase = ''
  let seen = ''
  let done = 0
  let shownAt = Number.NEGATIVE_INFINITY
  const draw = (): void => {
    const full = Math.round(done * barWidth)
    const text = `${title}  ${'█'.repeat(full)}${'░'.repeat(barWidth - full)}  ${phase}${seen === '' ? '' : `  ${seen}`}`
    stream.write(`\r\x1b[K${text.slice(0, (stream.columns ?? columnsDefault) - 1)}`)
  }
  const line = (): void => {
    if (performance.now() - shownAt < lineEveryMs) return
    shownAt = performance.now()
    stream.write(`${title}: ${phase}${done > 0 ? ` ${Math.round(done * 100)} %` : ''}${seen === '' ? '' : `  ${seen}`}\n`)
  }
  const show = stream.isTTY ? draw : line
  return {
    title: (next) => {
      title = next
      seen = ''
      shownAt = Number.NEGATIVE_INFINITY
    },
    phase: (name) => {
      phase = name
      done = 0
      show()
    },
    share: (share) => {
      done = share
      show()
    },
    live: (next) => {
      seen = next
      show()
    },
    end: () => {
      if (stream.isTTY) stream.write('\r\x1b[K')
    },
  }
}
