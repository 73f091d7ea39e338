/** What programs that embed Parley, and plugins, may import. */
export { type Config, ConfigError } from './config.js'
export { type ErrorCode, errorCodes, Refusal, refuse } from './errors.js'
export type { HttpAnswer, HttpExchange, HttpRoute } from './http-route.js'
export type {
  Caller,
  Identity,
  MessageDraft,
  Method,
  Plugin,
  PluginFactory,
  PluginServer,
  Publish,
  PublishOutcome,
  RoutedPublish,
} from './plugin.js'
export { method } from './plugin.js'
export { createServer, type Server, type ServerOptions } from './server.js'
export type { LogEntry } from './store/store.js'
export { mintToken } from './token.js'
