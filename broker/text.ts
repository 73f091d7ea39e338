/**
 * Texts as bytes. Nearly all that is sent is plain ASCII, where copying the characters is the encoding: that takes a fraction of
 * what UTF-8 in general does. Used for stored messages and for packets.
 */

const notPlain = /[^ -~]/

/** Printable ASCII only: one byte a character. */
export const isPlain = (text: string): boolean => !notPlain.test(text)

export const utf8 = (text: string): Buffer => Buffer.from(text, isPlain(text) ? 'latin1' : 'utf8')
