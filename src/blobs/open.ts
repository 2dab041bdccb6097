// Opens the configured object store.
import { join } from 'node:path';
import type { Config } from '../config.ts';
import type { Blobs } from './blobs.ts';
import { openFolder } from './folder.ts';

type BlobConfig = Pick<
  Config,
  'dataDirectory' | 's3Bucket' | 's3Endpoint' | 's3Region' | 'awsAccessKeyId' | 'awsSecretAccessKey'
>;

/** Does not contact the store; `check()` does. */
export async function openBlobs(config: BlobConfig): Promise<Blobs> {
  if (!config.s3Bucket) return openFolder(join(config.dataDirectory, 'objects'));
  const { openS3 } = await import('./s3.ts'); // 30 MB of memory, only where there is a bucket
  const { awsAccessKeyId: accessKeyId, awsSecretAccessKey: secretAccessKey } = config;
  return openS3({
    bucket: config.s3Bucket,
    endpoint: config.s3Endpoint,
    region: config.s3Region,
    credentials: accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : null,
  });
}
