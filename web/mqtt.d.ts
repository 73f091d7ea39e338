/** The part of MQTT.js that the page uses; the server serves the library itself at /mqtt.js, next to the compiled modules. */
export interface MqttOptions {
  username: string
  password: string
  clientId: string
  clean: boolean
  keepalive: number
  connectTimeout: number
  /** 0: the page reconnects by itself. */
  reconnectPeriod: number
  /** `native`: the page's content security policy allows no worker made from a blob. */
  timerVariant: 'native'
}

export interface MqttClient {
  on(event: 'connect' | 'close', listener: () => void): this
  on(event: 'error', listener: (error: Error & { code?: number | string }) => void): this
  on(event: 'message', listener: (topic: string, payload: Uint8Array) => void): this
  publish(topic: string, payload: string, options: { qos: 0 | 1 }): this
  subscribe(filter: string, options: { qos: 0 }): this
  end(force: boolean): this
}

declare const mqtt: { connect(url: string, options: MqttOptions): MqttClient }

// biome-ignore lint/style/noDefaultExport: it is the only export that the bundle has
export { mqtt as default }
