/** Records a voice message from the microphone, in what this browser can and the server takes. */

export interface VoiceRecord {
  bytes: Blob
  /** Without parameters. */
  mime: string
  durationMs: number
}

export interface Recording {
  readonly elapsedMs: number
  /** Ends it and gives the record. */
  stop(): Promise<VoiceRecord>
  cancel(): void
}

const types = ['audio/webm;codecs=opus', 'audio/ogg;codecs=opus', 'audio/mp4']

/** What a page on plain http, other than of this machine, does not have. */
export const canRecord = (): boolean => 'MediaRecorder' in globalThis && navigator.mediaDevices !== undefined

/** Asks for the microphone; rejects with words for the user. */
export async function beginRecording(): Promise<Recording> {
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error: DOMException) => {
    const why = error.name === 'NotAllowedError' ? 'the browser does not allow it' : error.message
    throw new Error(`The microphone cannot be used: ${why}`)
  })
  const mimeType = types.find((type) => MediaRecorder.isTypeSupported(type))
  const recorder = new MediaRecorder(microphone, mimeType === undefined ? {} : { mimeType })
  const parts: Blob[] = []
  recorder.addEventListener('dataavailable', ({ data }) => parts.push(data))
  const ended = new Promise((resolve) => recorder.addEventListener('stop', resolve))
  recorder.start()
  const startedMs = performance.now()
  const end = async (): Promise<void> => {
    recorder.stop()
    await ended
    for (const track of microphone.getTracks()) track.stop()
  }
  return {
    get elapsedMs() {
      return performance.now() - startedMs
    },
    async stop() {
      const durationMs = Math.max(1, Math.round(performance.now() - startedMs))
      await end()
      const mime = (recorder.mimeType.split(';')[0] ?? '').trim()
      return { bytes: new Blob(parts, { type: mime }), mime, durationMs }
    },
    cancel: () => void end(),
  }
}
