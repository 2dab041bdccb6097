// Signs messages as specified by Standard Webhooks (https://www.standardwebhooks.com).
import { createHmac, randomBytes } from 'node:crypto';

const PREFIX = 'whsec_';
const SECRET_BYTES = 32;

export interface SignedMessage {
  /** By this id a receiver recognizes repeated deliveries. */
  id: string;
  /** Unix seconds. */
  timestamp: number;
  body: string;
}

export function newSigningSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString('base64');
}

/** The part of a secret that may be shown. */
export function secretHint(secret: string): string {
  return `${PREFIX}...${secret.slice(-4)}`;
}

/** The headers of a delivery, with a signature for each valid secret: there are two while a secret is rotated. */
export function signatureHeaders(message: SignedMessage, secrets: readonly string[]): Record<string, string> {
  return {
    'webhook-id': message.id,
    'webhook-timestamp': String(message.timestamp),
    'webhook-signature': secrets.map(secret => `v1,${sign(message, secret)}`).join(' '),
  };
}

function sign({ id, timestamp, body }: SignedMessage, secret: string): string {
  const key = Buffer.from(secret.slice(PREFIX.length), 'base64');
  return createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
}
