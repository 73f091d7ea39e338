/** What is counted of media: how uploads and downloads end, their bytes, and what was removed. */
import { Counter, Gauge, type Registry } from 'prom-client'
import { Refusal } from '../../broker/errors.js'
import type { HttpAnswer } from '../../broker/http-route.js'

export interface MediaMetrics {
  /** Runs one upload and counts it. */
  uploading(act: () => Promise<HttpAnswer>): Promise<HttpAnswer>
  /** Runs one download and counts it. */
  downloading(act: () => Promise<HttpAnswer>): Promise<HttpAnswer>
  /** Bytes that are durable. */
  kept(bytes: number): void
  /** An object that nobody refers to is gone. */
  removed(): void
}

const ownFaults: ReadonlySet<string> = new Set(['unavailable', 'internal', 'busy'])

/** Whose fault it was that there is no result: what is cut off is the client's. */
function resultOf(error: unknown): 'refused' | 'failed' {
  if (error instanceof Refusal) return ownFaults.has(error.code) ? 'failed' : 'refused'
  const { name, code } = error as NodeJS.ErrnoException
  return name !== 'StoreUnavailable' && (code === 'ECONNRESET' || name === 'AbortError') ? 'refused' : 'failed'
}

export function createMediaMetrics(registry: Registry, underWay: () => number): MediaMetrics {
  const registers = [registry]
  const uploads = new Counter({
    name: 'parley_media_uploads_total',
    help: 'Uploads that have ended, by result',
    labelNames: ['result'],
    registers,
  })
  const downloads = new Counter({
    name: 'parley_media_downloads_total',
    help: 'Downloads, by result',
    labelNames: ['result'],
    registers,
  })
  // There from the start: a rate needs the 0 before the first.
  for (const result of ['stored', 'refused', 'failed']) uploads.inc({ result }, 0)
  for (const result of ['sent', 'unchanged', 'refused', 'failed']) downloads.inc({ result }, 0)
  const uploadBytes = new Counter({ name: 'parley_media_upload_bytes_total', help: 'Bytes of uploads that were kept', registers })
  const downloadBytes = new Counter({
    name: 'parley_media_download_bytes_total',
    help: 'Bytes of downloads, as they were begun',
    registers,
  })
  const removed = new Counter({ name: 'parley_media_removed_total', help: 'Objects removed because nobody refers to them', registers })
  new Gauge({
    name: 'parley_media_uploads_under_way',
    help: 'Uploads under way',
    registers,
    collect() {
      this.set(underWay())
    },
  })
  const counting =
    (count: (answer: HttpAnswer) => void, counter: Counter) =>
    async (act: () => Promise<HttpAnswer>): Promise<HttpAnswer> => {
      try {
        const answer = await act()
        count(answer)
        return answer
      } catch (error) {
        counter.inc({ result: resultOf(error) })
        throw error
      }
    }
  return {
    uploading: counting(() => uploads.inc({ result: 'stored' }), uploads),
    downloading: counting(({ status, headers, body }) => {
      downloads.inc({ result: status === 304 ? 'unchanged' : body === undefined ? 'refused' : 'sent' })
      if (body !== undefined) downloadBytes.inc(Number(headers['content-length']))
    }, downloads),
    kept: (bytes) => uploadBytes.inc(bytes),
    removed: () => removed.inc(),
  }
}
