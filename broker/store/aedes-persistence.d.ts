/** The part of aedes-persistence that Parley builds on: its in-memory class, whose methods are asynchronous. */
declare module 'aedes-persistence/asyncPersistence.js' {
  import type { Readable } from 'node:stream'

  interface Client {
    id: string
  }

  class MemoryPersistence {
    setup(broker: object): Promise<void>
    storeRetained(packet: object): Promise<void>
    createRetainedStream(pattern: string): Readable
    createRetainedStreamCombi(patterns: string[]): Readable
    addSubscriptions(client: Client, subs: object[]): Promise<void>
    removeSubscriptions(client: Client, topics: string[]): Promise<void>
    subscriptionsByClient(client: Client): Promise<{ topic: string; qos: number }[]>
    subscriptionsByTopic(topic: string): Promise<object[]>
    cleanSubscriptions(client: Client): Promise<void>
    countOffline(): Promise<{ subsCount: number; clientsCount: number }>
    incomingStorePacket(client: Client, packet: object): Promise<void>
    incomingGetPacket(client: Client, packet: object): Promise<object>
    incomingDelPacket(client: Client, packet: object): Promise<void>
    cleanIncoming(client: Client): Promise<void>
    putWill(client: Client, packet: object): Promise<void>
    getWill(client: Client): Promise<object | undefined>
    delWill(client: Client): Promise<object | undefined>
    streamWill(brokers?: object): Readable
    getClientList(topic: string): Readable
    destroy(): Promise<void>
  }

  export = MemoryPersistence
}
