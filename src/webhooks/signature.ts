// Standard Webhooks signatures (https://www.standardwebhooks.com): made here, verified by the receiver.
import { createHmac, randomBytes } from 'node:crypto';

const PREFIX = 'whsec_';
const SECRET_BYTES = 32;

export interface SignedMessage {
  /** The receiver tells repetitions by it. */
  id: string;
  /** Unix seconds. */
  timestamp: number;
  body: string;
}

export function newSigningSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString('base64');
}

/** What may be shown of a secret. */
export function secretHint(secret: string): string {
  return `${PREFIX}...${secret.slice(-4)}`;
}

/** The headers of a delivery. Several secrets are valid while one is replaced: each signs, any may be verified. */
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
