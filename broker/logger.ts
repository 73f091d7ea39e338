/**
 * The log: one JSON line for each event on stderr, so that stdout is free for what people read. Fields that could
 * hold a token or a payload are removed wherever they stand in the first three levels, whoever logs them by mistake.
 */
import { type DestinationStream, type Logger, pino } from 'pino'
import type { Config } from './config.js'

export type { Logger } from 'pino'

const neverLogged = ['token', 'password', 'payload', 'authorization', 'cookie', 'secret', 'jwtSecret']

export function createLogger(level: Config['logLevel'], stream: DestinationStream = pino.destination({ dest: 2, sync: true })): Logger {
  const paths = neverLogged.flatMap((field) => [field, `*.${field}`, `*.*.${field}`])
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths, censor: '(hidden)' },
    },
    stream,
  )
}
