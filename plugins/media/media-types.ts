/**
 * What kinds of media there are, and whether bytes can be what they are said to be. A type of the table must begin as the table says; of
 * other types nothing is known, so they are files for saving and never shown. The head of a file is looked at and nothing is parsed.
 */
export type MediaKind = 'image' | 'voice' | 'file'

/** Of a file so much is looked at. */
export const headBytes = 4096

interface Signature {
  types: readonly string[]
  /** Whether a file that begins like this is one of `types`. */
  fits(head: Buffer): boolean
}

const at = (head: Buffer, offset: number, text: string): boolean => head.toString('latin1', offset, offset + text.length) === text
const starts =
  (...beginnings: string[]) =>
  (head: Buffer): boolean =>
    beginnings.some((beginning) => at(head, 0, beginning))
const riff =
  (form: string) =>
  (head: Buffer): boolean =>
    at(head, 0, 'RIFF') && at(head, 8, form)
/** ISO base media: the brands, major and compatible, stand in the first box. */
const branded =
  (brands: RegExp) =>
  (head: Buffer): boolean =>
    at(head, 4, 'ftyp') && brands.test(head.toString('latin1', 8, Math.min(head.readUInt32BE(0), 256)))
/** MPEG audio: eleven bits of sync, a layer that is not 0, a bit rate and a sample rate that exist. */
const isMpegFrame = (head: Buffer): boolean =>
  head.length > 3 &&
  head.readUInt16BE(0) >= 0xffe0 &&
  (head.readUInt8(1) & 0x06) !== 0 &&
  head.readUInt8(2) < 0xf0 &&
  (head.readUInt8(2) & 0x0c) !== 0x0c

const signatures: readonly Signature[] = [
  { types: ['image/jpeg'], fits: starts('\xff\xd8\xff') },
  { types: ['image/png'], fits: starts('\x89PNG\r\n\x1a\n') },
  { types: ['image/gif'], fits: starts('GIF87a', 'GIF89a') },
  { types: ['image/webp'], fits: riff('WEBP') },
  { types: ['image/avif'], fits: branded(/avif|avis/) },
  { types: ['image/heic', 'image/heif'], fits: branded(/heic|heix|heim|heis|hevc|mif1|msf1/) },
  { types: ['audio/ogg', 'audio/opus', 'video/ogg'], fits: starts('OggS') },
  { types: ['audio/webm', 'video/webm', 'video/x-matroska'], fits: starts('\x1a\x45\xdf\xa3') },
  {
    types: ['audio/mp4', 'audio/x-m4a', 'audio/m4a', 'video/mp4'],
    fits: branded(/isom|iso[2-9]|mp4[12]|M4A |M4B |M4V |avc1|dash|MSNV|3gp|qt {2}/),
  },
  { types: ['video/quicktime'], fits: branded(/qt {2}/) },
  { types: ['audio/3gpp', 'video/3gpp'], fits: branded(/3g[pr2s]/) },
  { types: ['audio/mpeg', 'audio/mp3'], fits: (head) => at(head, 0, 'ID3') || isMpegFrame(head) },
  { types: ['audio/aac'], fits: (head) => starts('\xff\xf1', '\xff\xf9', 'ADIF')(head) },
  { types: ['audio/amr'], fits: starts('#!AMR') },
  { types: ['audio/flac'], fits: starts('fLaC') },
  { types: ['audio/wav', 'audio/x-wav', 'audio/wave'], fits: riff('WAVE') },
  { types: ['application/pdf'], fits: starts('%PDF-') },
  { types: ['application/zip'], fits: starts('PK\x03\x04', 'PK\x05\x06') },
  { types: ['application/gzip'], fits: starts('\x1f\x8b') },
]

const known = new Set(signatures.flatMap(({ types }) => types))

/** `Audio/OGG; codecs=opus` → `audio/ogg`. */
export const essenceOf = (mime: string): string => (mime.split(';')[0] as string).trim().toLowerCase()

export const mimePattern = '^[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}( *;[ -~]{1,60})?$'

/** Undefined, or what is wrong with bytes that begin like this and are said to be of `type`. */
export function faultOfHead(type: string, head: Buffer): string | undefined {
  const isOfTable = known.has(type)
  if (isOfTable && !signatures.some(({ types, fits }) => types.includes(type) && fits(head))) {
    const found = signatures.filter(({ fits }) => fits(head)).flatMap(({ types }) => types)
    return `these bytes are no ${type}${found.length === 0 ? '' : `: they look like ${found.join(' or ')}`}`
  }
  // UTF-16 has a byte order mark, and zeros.
  const isText = !head.includes(0) || starts('\xff\xfe', '\xfe\xff')(head)
  return type.startsWith('text/') && !isText ? `these bytes are no ${type}: they have zeros` : undefined
}

/** Pictures, sounds and films that a browser may show; what could run a script is not among them. */
export const isShown = (type: string): boolean => known.has(type) && /^(image|audio|video)\//.test(type)

/** As what a type is sent when nothing else is said. */
export function kindOf(type: string): MediaKind {
  if (isShown(type) && type.startsWith('image/')) return 'image'
  return isShown(type) && type.startsWith('audio/') ? 'voice' : 'file'
}

/** A `file` may be of any type. */
export const isOfKind = (type: string, kind: MediaKind): boolean => kind === 'file' || kindOf(type) === kind

/** `patterns`: full types, `image/*`, or everything. */
export const isAllowed = (type: string, patterns: readonly string[]): boolean =>
  patterns.some((pattern) => pattern === '*/*' || pattern === type || (pattern.endsWith('/*') && type.startsWith(pattern.slice(0, -1))))
