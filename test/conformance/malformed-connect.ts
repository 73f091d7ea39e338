/** Rows on the first packet of a connection. */
import * as packets from '../helper/packets.js'
import type { Expectation, Row } from './malformed-row.js'

const { bytes, connect, hex, packet, packetType, text, uint16 } = packets

const row = (name: string, spec: string, content: Buffer, expect: Expectation, ws?: true): Row => ({
  name,
  spec,
  stage: 'first',
  bytes: content,
  expect,
  ...(ws ? { ws } : {}),
})

const id = { clientId: 'badconnect' }
const will = { topic: 'w', payload: 'm' }
/** A CONNECT of these parts after `MQTT`, level 4 and the flags. */
const after = (connectFlags: number, ...parts: packets.Part[]): Buffer =>
  packet(packetType.connect, 0, text('MQTT'), 4, connectFlags, ...parts)

const protocolRows: Row[] = [
  row('protocol name MQTX', 'MQTT-3.1.2-1', connect({ ...id, protocolName: 'MQTX' }), 'close', true),
  row('protocol name mqtt', 'MQTT-3.1.2-1', connect({ ...id, protocolName: 'mqtt' }), 'close'),
  row('protocol name of no bytes', 'MQTT-3.1.2-1', connect({ ...id, protocolName: '' }), 'close'),
  row('protocol name MQTTT', 'MQTT-3.1.2-1', connect({ ...id, protocolName: 'MQTTT' }), 'close'),
  row('protocol name that is not UTF-8', 'MQTT-1.5.3-1', connect({ ...id, protocolName: hex('4d515454ff') }), 'close'),
  row('protocol name of 65,535 bytes', 'MQTT-3.1.2-1', connect({ ...id, protocolName: 'M'.repeat(65_535) }), 'close'),
  row('protocol name MQIsdp with level 4', 'MQTT-3.1.2-1', connect({ ...id, protocolName: 'MQIsdp' }), 'refuse'),
  row('MQTT 3.1, which a server may speak, too', 'section 3.1.2.2', connect({ ...id, protocolName: 'MQIsdp', level: 3 }), 'any'),
  ...[0, 3, 6, 127, 255].map((level) => row(`protocol level ${level}`, 'MQTT-3.1.2-2', connect({ ...id, level }), 'connack 1')),
  row(
    'protocol level 5, well-formed in MQTT 5',
    'MQTT-3.1.2-2',
    packet(1, 0, text('MQTT'), 5, 2, uint16(60), 0, text('badconnect')),
    'connack 1',
    true,
  ),
]

const flagRows: Row[] = [
  row('reserved connect flag', 'MQTT-3.1.2-3', connect({ ...id, connectFlags: 3 }), 'close', true),
  row('will QoS 1 without will', 'MQTT-3.1.2-13', connect({ ...id, connectFlags: 2 | 8 }), 'close'),
  row('will QoS 2 without will', 'MQTT-3.1.2-13', connect({ ...id, connectFlags: 2 | 16 }), 'close'),
  row('will QoS 3 without will', 'MQTT-3.1.2-13', connect({ ...id, connectFlags: 2 | 24 }), 'close'),
  row('will retain without will', 'MQTT-3.1.2-15', connect({ ...id, connectFlags: 2 | 32 }), 'close'),
  row('will QoS 3', 'MQTT-3.1.2-14', connect({ ...id, will: { ...will, qos: 3 } }), 'close', true),
  row('password without user name', 'MQTT-3.1.2-22', connect({ ...id, password: 'p' }), 'close', true),
  ...[1, 2, 4, 8].map((headerFlags) =>
    row(`CONNECT with fixed header flags ${headerFlags}`, 'MQTT-2.2.2-2', connect({ ...id, headerFlags }), 'close'),
  ),
]

const lengthRows: Row[] = [
  row('CONNECT of no bytes', 'MQTT-3.1.4-1', packet(1, 0), 'close'),
  row('CONNECT of one byte', 'MQTT-3.1.4-1', packet(1, 0, 0), 'close'),
  row('protocol name over the end of the packet', 'MQTT-3.1.4-1', packet(1, 0, uint16(40), 'MQTT'), 'close'),
  row('CONNECT that ends after the name', 'MQTT-3.1.4-1', packet(1, 0, text('MQTT')), 'close'),
  row('CONNECT that ends after the level', 'MQTT-3.1.4-1', packet(1, 0, text('MQTT'), 4), 'close'),
  row('CONNECT that ends after the flags', 'MQTT-3.1.4-1', after(2), 'close'),
  row('CONNECT with one byte of keep alive', 'MQTT-3.1.4-1', after(2, 0), 'close'),
  row('CONNECT without client id', 'MQTT-3.1.3-3', after(2, uint16(60)), 'close'),
  row('client id over the end of the packet', 'MQTT-3.1.4-1', after(2, uint16(60), uint16(9), 'short'), 'close'),
  row('will flag without will topic', 'MQTT-3.1.2-9', after(6, uint16(60), text('badconnect')), 'close'),
  row('will flag without will message', 'MQTT-3.1.2-9', after(6, uint16(60), text('badconnect'), text('w')), 'close'),
  row(
    'will message over the end of the packet',
    'MQTT-3.1.4-1',
    after(6, uint16(60), text('badconnect'), text('w'), uint16(5), 'm'),
    'close',
  ),
  row('user name flag without user name', 'MQTT-3.1.2-19', after(130, uint16(60), text('badconnect')), 'close'),
  row('password flag without password', 'MQTT-3.1.2-21', after(194, uint16(60), text('badconnect'), text('u')), 'close'),
  row(
    'password over the end of the packet',
    'MQTT-3.1.4-1',
    after(194, uint16(60), text('badconnect'), text('u'), uint16(9), 'p'),
    'close',
  ),
  row('one byte after the payload', 'MQTT-3.1.4-1', connect({ ...id, excess: Buffer.of(0) }), 'close', true),
  row('user name without its flag', 'MQTT-3.1.2-18', connect({ ...id, excess: text('user') }), 'close'),
  row('will without its flag', 'MQTT-3.1.2-11', connect({ ...id, excess: bytes(text('w'), text('m')) }), 'close'),
  row('remaining length of five bytes', 'section 2.2.3', hex('10 ff ff ff ff 01 00 04'), 'close', true),
  row('remaining length of endless bytes', 'section 2.2.3', bytes(0x10, Buffer.alloc(64, 0xff)), 'close'),
]

const willRows: Row[] = [
  ...['', '#', '+', 'a/#', '+/a', 'a/+/b'].map((topic) =>
    row(`will topic "${topic}"`, topic === '' ? 'MQTT-4.7.3-1' : 'MQTT-3.3.2-2', connect({ ...id, will: { ...will, topic } }), 'refuse'),
  ),
]

const otherTypes = Object.entries(packetType).filter(([name]) => name !== 'connect')

const firstPacketRows: Row[] = [
  ...otherTypes.map(([name, type]) => {
    const flags = name === 'pubrel' || name === 'subscribe' || name === 'unsubscribe' ? 2 : 0
    const body = name.startsWith('ping') || name === 'disconnect' ? [] : [uint16(1), text('a'), 0]
    return row(
      `${name.toUpperCase()} before CONNECT`,
      'MQTT-3.1.0-1',
      packet(type, flags, ...body),
      'close',
      name === 'publish' ? true : undefined,
    )
  }),
  row('type 0 before CONNECT', 'section 2.2.1', packet(0, 0), 'close'),
  row('type 15 before CONNECT', 'section 2.2.1', packet(15, 0), 'close'),
  row('a request of HTTP', 'MQTT-3.1.0-1', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), 'close'),
  row('a hello of TLS', 'MQTT-3.1.0-1', bytes(hex('16 03 01 00 05 01 00 00 01 00'), Buffer.alloc(64)), 'close'),
  row('many bytes of value 0', 'MQTT-3.1.0-1', Buffer.alloc(1_000), 'close'),
  row('many bytes of value 255', 'MQTT-3.1.0-1', Buffer.alloc(1_000, 0xff), 'close'),
]

const idRows: Row[] = [
  row('empty client id with clean=0', 'MQTT-3.1.3-8', connect({ clean: false }), 'connack 2', true),
  row('empty client id with clean=1', 'MQTT-3.1.3-7', connect(), 'connack 0', true),
  row('client id __proto__', 'section 3.1.3.1', connect({ clientId: '__proto__' }), 'connack 0'),
  row('client id constructor', 'section 3.1.3.1', connect({ clientId: 'constructor' }), 'connack 0'),
  row('client id of 65,535 bytes', 'section 3.1.3.1', connect({ clientId: 'c'.repeat(65_535) }), 'any'),
  row('client id # with a will', 'section 3.1.3.1', connect({ clientId: '#', will }), 'any'),
  row(
    'will and keep alive at their largest',
    'section 3.1.2',
    connect({ ...id, keepaliveS: 65_535, will: { ...will, qos: 2 } }),
    'connack 0',
  ),
  row('keep alive 0', 'section 3.1.2.10', connect({ ...id, keepaliveS: 0 }), 'connack 0'),
]

export const connectRows: Row[] = [...protocolRows, ...flagRows, ...lengthRows, ...willRows, ...firstPacketRows, ...idRows]
