// The name of the model that a job trains, `ft:{base}:{organization}:{suffix}:{8}`, known before the model exists.
import { createHash } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

export interface ModelNameParts {
  /** Id of the base model at the root. */
  base: string;
  organization: string;
  suffix: string | null;
  jobId: string;
}

/** The last part is derived from the job's id, so that all attempts and checkpoints use the same name. */
export function fineTunedModelName({ base, organization, suffix, jobId }: ModelNameParts): string {
  return `ft:${base}:${organization}:${plain(suffix ?? '')}:${shortHash(jobId)}`;
}

/** Colons separate the parts of a name, and names are used in URL paths: other characters become a dash. */
const plain = (suffix: string): string => suffix.replace(/[^A-Za-z0-9._-]+/g, '-');

/** 8 letters and digits: 2^47 names. */
function shortHash(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  return Array.from(digest.subarray(0, 8), byte => ALPHABET[byte % ALPHABET.length]).join('');
}
