// Encrypts a text with a secret that only the client has (its API key, of which we store a hash), so that stored responses cannot be read
// from the database. AES-256-GCM, with a key derived from the secret by HKDF.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** `purpose`: separates keys that are derived from the same secret. */
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

/** Throws for another secret or purpose, and for modified data. */
export function unseal(sealed: Buffer, sealing: Sealing): string {
  const decipher = createDecipheriv(CIPHER, keyOf(sealing), sealed.subarray(0, IV_BYTES));
  decipher.setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  const rest = sealed.subarray(IV_BYTES + TAG_BYTES);
  return Buffer.concat([decipher.update(rest), decipher.final()]).toString('utf8');
}

function keyOf({ secret, purpose }: Sealing): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `anneal ${purpose}`, 32));
}
