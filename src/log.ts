// The log: JSON lines on stdout, without API keys and without users' texts.
import pino, { type DestinationStream, type Logger } from 'pino';

export type { Logger };

const hidden = [
  'authorization',
  'apiKey',
  'api_key',
  'password',
  'body',
  'messages',
  'prompt',
  'completion',
  'content',
];

export function openLog(
  options: { level: string; process: string },
  destination?: DestinationStream,
): Logger {
  const settings: pino.LoggerOptions = {
    level: options.level,
    base: { process: options.process, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    redact: { paths: hidden.flatMap(name => [name, `*.${name}`, `*.*.${name}`]), censor: '[hidden]' },
    serializers: { err: pino.stdSerializers.err, error: serializeError },
  };
  return destination ? pino(settings, destination) : pino(settings);
}

/** `error` may be an Error or a message. */
function serializeError(error: unknown): unknown {
  return error instanceof Error ? pino.stdSerializers.err(error) : error;
}
