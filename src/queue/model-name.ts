// The name of what a job makes, known before it is made: `ft:{base}:{organization}:{suffix}:{8}`.
import { createHash } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

export interface ModelNameParts {
  /** Id of the base model at the root. */
  base: string;
  organization: string;
  suffix: string | null;
  jobId: string;
}

/** The last part comes from the job's id: checkpoints have the name from the first one on, whoever runs the job. */
export function fineTunedModelName({ base, organization, suffix, jobId }: ModelNameParts): string {
  return `ft:${base}:${organization}:${plain(suffix ?? '')}:${shortHash(jobId)}`;
}

/** A colon would be read as the end of a part, and names stand in paths of URLs: what is not plain becomes a dash. */
const plain = (suffix: string): string => suffix.replace(/[^A-Za-z0-9._-]+/g, '-');

/** 8 letters and digits: 2^47 names. */
function shortHash(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  return Array.from(digest.subarray(0, 8), byte => ALPHABET[byte % ALPHABET.length]).join('');
}
