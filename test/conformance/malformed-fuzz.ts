/** Good packets with a few bytes changed, inserted, removed or repeated, in random order: the broker may do anything but die. */
import { randomInt } from 'node:crypto'
import * as packets from '../helper/packets.js'
import { type LinkOptions, RawClient } from '../helper/raw-client.js'

/** Numbers from 0 to below `end`, the same ones for the same seed. */
type Random = (end: number) => number

/** Marsaglia's xorshift with 32 bits. */
function createRandom(seed: number): Random {
  let state = seed | 1
  return (end) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % end
  }
}

const goodPackets = (random: Random): Buffer[] => [
  packets.publish({ topic: `fuzz/${random(9)}`, payload: 'payload', qos: random(3), retain: random(4) === 0, packetId: 1 + random(9) }),
  packets.subscribe(1 + random(9), [`fuzz/${random(9)}`, random(3)], ['fuzz/+', 0]),
  packets.unsubscribe(1 + random(9), `fuzz/${random(9)}`),
  packets.puback(1 + random(9)),
  packets.pubrec(1 + random(9)),
  packets.pubrel(1 + random(9)),
  packets.pubcomp(1 + random(9)),
  packets.pingreq,
]

function mutate(content: Buffer, random: Random): Buffer {
  const at = random(content.length)
  const [before, after] = [content.subarray(0, at), content.subarray(at)]
  switch (random(5)) {
    case 0:
      return packets.bytes(before, random(256), after.subarray(1))
    case 1:
      return packets.bytes(before, random(256), after)
    case 2:
      return packets.bytes(before, after.subarray(1))
    case 3:
      return packets.bytes(before, before, after)
    default:
      return content // good ones between bring the broker into other states
  }
}

export const randomSeed = (): number => randomInt(1, 2 ** 31)

/** Opens `connections` one after the other and sends each some mutated packets, the CONNECT of a few being mutated, too. */
export async function fuzz(link: LinkOptions, seed: number, connections: number): Promise<void> {
  const random = createRandom(seed)
  for (let number = 0; number < connections; number++) {
    const client = await RawClient.open(link)
    const hello = packets.connect({
      clientId: `fuzz${random(5)}`,
      clean: random(2) === 0,
      will: { topic: 'fuzz/will', payload: 'm', qos: random(3) },
    })
    client.send(random(8) === 0 ? mutate(hello, random) : hello)
    for (let count = 0; count < 8; count++) {
      const good = goodPackets(random)
      client.send(mutate(good[random(good.length)] ?? packets.pingreq, random))
    }
    await client.expect('connack', undefined, 200).catch(() => undefined) // whether it answers is the broker's affair
    client.reset()
    await client.closed
  }
}
