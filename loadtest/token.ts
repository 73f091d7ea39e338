/** Tokens for load users, signed with the secret of the server under test. */
import { SignJWT } from 'jose'

const lifeSeconds = 6 * 3600

export function createTokenSigner(secret: string): (user: string) => Promise<string> {
  const key = new TextEncoder().encode(secret)
  return (user) =>
    new SignJWT({})
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject(user)
      .setExpirationTime(Math.floor(Date.now() / 1000) + lifeSeconds)
      .sign(key)
}
