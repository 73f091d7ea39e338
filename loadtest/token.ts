/** Tokens for load users (JWT, HS256), signed with the secret of the server under test; made in microseconds, since storms need thousands. */
import { createHmac } from 'node:crypto'

const lifeSeconds = 24 * 3600

const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')
const header = encode({ alg: 'HS256' })

export function createTokenSigner(secret: string): (user: string) => string {
  return (user) => {
    const signed = `${header}.${encode({ sub: user, exp: Math.floor(Date.now() / 1000) + lifeSeconds })}`
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
  }
}
