/** Shows what the tool is doing: a bar that redraws itself on a terminal, a line every two seconds elsewhere. Writes to stderr. */

const barWidth = 30
const lineEveryMs = 2_000

export interface Progress {
  /** What is being run, such as `parley, run 2 of 3`. */
  title(title: string): void
  phase(name: string): void
  /** How much of the present phase is done, 0…1. */
  share(share: number): void
  end(): void
}

export function createProgress(stream: NodeJS.WriteStream): Progress {
  let title = ''
  let phase = ''
  let shownAt = Number.NEGATIVE_INFINITY
  const draw = (share: number): void => {
    const full = Math.round(share * barWidth)
    stream.write(`\r\x1b[K${title}  ${'█'.repeat(full)}${'░'.repeat(barWidth - full)}  ${phase}`)
  }
  const line = (share: number): void => {
    if (performance.now() - shownAt < lineEveryMs) return
    shownAt = performance.now()
    stream.write(`${title}: ${phase}${share > 0 ? ` ${Math.round(share * 100)} %` : ''}\n`)
  }
  const show = stream.isTTY ? draw : line
  return {
    title: (next) => {
      title = next
      shownAt = Number.NEGATIVE_INFINITY
    },
    phase: (name) => {
      phase = name
      show(0)
    },
    share: show,
    end: () => {
      if (stream.isTTY) stream.write('\r\x1b[K')
    },
  }
}
