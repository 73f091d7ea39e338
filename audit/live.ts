/** Shows what an audit is doing: one line that redraws itself on a terminal, a line every ten seconds elsewhere. */

const lineEveryMs = 10_000

export interface Live {
  phase(name: string): void
  /** Shown behind the phase. */
  show(figures: string): void
  end(): void
}

export function createLive(stream: NodeJS.WriteStream): Live {
  let phase = ''
  let shownAt = Number.NEGATIVE_INFINITY
  const draw = (figures: string): void => {
    if (stream.isTTY) stream.write(`\r\x1b[K${`${phase}  ${figures}`.slice(0, (stream.columns ?? 120) - 1)}`)
    else if (performance.now() - shownAt >= lineEveryMs) {
      shownAt = performance.now()
      stream.write(`${phase}  ${figures}\n`)
    }
  }
  return {
    phase(name) {
      phase = name
      shownAt = Number.NEGATIVE_INFINITY
      draw('')
    },
    show: draw,
    end() {
      if (stream.isTTY) stream.write('\r\x1b[K')
    },
  }
}

export const silent: Live = { phase: () => undefined, show: () => undefined, end: () => undefined }
