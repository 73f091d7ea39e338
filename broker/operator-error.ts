/**
 * An error that the operator can mend: its message says what was wrong and what to do, so the command line shows
 * it without a stack trace and exits with 2.
 */
export class OperatorError extends Error {
  override name = 'OperatorError'
}
