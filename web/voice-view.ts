/** The part of the composer that records: a microphone, and while it is on the time, a way out and a way to send. */
import { byId } from './dom.js'
import { durationOf } from './fold.js'
import { beginRecording, canRecord, type Recording, type VoiceRecord } from './recorder.js'

export interface VoiceView {
  /** Nothing is recorded any more. */
  cancel(): void
}

const longestMs = 5 * 60_000
const tickMs = 250

/** `send` gets what was recorded, `say` what went wrong. */
export function createVoiceView(send: (record: VoiceRecord) => void, say: (text: string) => void): VoiceView {
  const begin = byId('record', 'button')
  const composer = byId('composer', 'form')
  const bar = byId('recording', 'div')
  const time = byId('recording-time', 'span')
  let recording: Recording | undefined
  let isAsking = false
  let timer: number | undefined

  const show = (isOn: boolean): void => {
    composer.classList.toggle('records', isOn)
    bar.hidden = !isOn
    clearInterval(timer)
    if (!isOn) return
    const tick = (): void => {
      const elapsedMs = recording?.elapsedMs ?? 0
      time.textContent = durationOf(elapsedMs)
      if (elapsedMs >= longestMs) void finish()
    }
    tick()
    timer = setInterval(tick, tickMs)
    byId('recording-send', 'button').focus()
  }

  async function start(): Promise<void> {
    if (isAsking || recording !== undefined) return
    isAsking = true
    try {
      recording = await beginRecording()
      show(true)
    } catch (error) {
      say((error as Error).message)
    } finally {
      isAsking = false
    }
  }

  async function finish(): Promise<void> {
    const done = recording
    recording = undefined
    show(false)
    begin.focus()
    if (done !== undefined) send(await done.stop())
  }

  function cancel(): void {
    recording?.cancel()
    recording = undefined
    show(false)
  }

  begin.hidden = !canRecord()
  begin.addEventListener('click', () => void start())
  byId('recording-cancel', 'button').addEventListener('click', () => {
    cancel()
    begin.focus()
  })
  byId('recording-send', 'button').addEventListener('click', () => void finish())
  return { cancel }
}
