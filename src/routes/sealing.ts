// Seals a text with a secret that only the caller has (an API key, of which we store a hash): without it nobody can read
// what lies in the database. AES-256-GCM, the key drawn from the secret by HKDF.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** `purpose`: what the same secret is not to open elsewhere. */
export interface Sealing {
  secret: string;
  purpose: string;
}

export function seal(text: string, sealing: Sealing): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, keyOf(sealing), iv);
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]);
}

/** Throws when it was sealed otherwise, or changed since. */
export function unseal(sealed: Buffer, sealing: Sealing): string {
  const decipher = createDecipheriv(CIPHER, keyOf(sealing), sealed.subarray(0, IV_BYTES));
  decipher.setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  const rest = sealed.subarray(IV_BYTES + TAG_BYTES);
  return Buffer.concat([decipher.update(rest), decipher.final()]).toString('utf8');
}

function keyOf({ secret, purpose }: Sealing): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `anneal ${purpose}`, 32));
}
