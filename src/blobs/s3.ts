// Object store in an S3 bucket, of AWS or of a compatible server.
import { Readable } from 'node:stream';
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  paginateListObjectsV2,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { type BlobInfo, BlobNotFound, type Blobs, type PutOptions } from './blobs.ts';
import { measure } from './measured.ts';

export interface S3Settings {
  readonly bucket: string;
  /** null: AWS itself. */
  readonly endpoint: string | null;
  readonly region: string;
  /** null: the AWS default chain. */
  readonly credentials: { accessKeyId: string; secretAccessKey: string } | null;
}

/** Buffered in memory during an upload. S3 allows 10,000 parts, so an object may have 160 GB. */
const PART_BYTES = 16 * 2 ** 20;
const PARTS_AT_ONCE = 2;
/** With exponential backoff, about 6 s in total. Longer outages are handled by the caller (src/queue/retry.ts). */
const MAX_ATTEMPTS = 8;
const CHECK_ATTEMPTS = 2;
const CONNECT_TIMEOUT_MS = 5_000;
/** Longest time without any traffic. */
const IDLE_TIMEOUT_MS = 60_000;

export function openS3(settings: S3Settings): Blobs {
  const client = new S3Client(clientConfig(settings, MAX_ATTEMPTS));
  const checking = new S3Client(clientConfig(settings, CHECK_ATTEMPTS));
  const Bucket = settings.bucket;
  const ready = untilDone(() => ensureBucket(client, settings));
  return {
    async put(key, body, options = {}) {
      await ready();
      return upload(client, Bucket, key, body, options);
    },
    async get(key, range) {
      if (range && range.end <= range.start) return Readable.from([]);
      const Range = range && `bytes=${range.start}-${range.end - 1}`;
      const found = await orMissing(client.send(new GetObjectCommand({ Bucket, Key: key, Range })));
      if (!found) throw new BlobNotFound(key);
      return found.Body as Readable;
    },
    async size(key) {
      const found = await orMissing(client.send(new HeadObjectCommand({ Bucket, Key: key })));
      return found?.ContentLength ?? null;
    },
    async delete(key) {
      await orMissing(client.send(new DeleteObjectCommand({ Bucket, Key: key })));
    },
    async *list(prefix) {
      await ready();
      for await (const page of paginateListObjectsV2({ client }, { Bucket, Prefix: prefix })) {
        for (const { Key, LastModified } of page.Contents ?? []) yield { key: Key!, storedAt: LastModified! };
      }
    },
    localPath: () => null,
    check: () => ensureBucket(checking, settings),
  };
}

/** The SDK's default checksum trailers are sent to AWS only, because some other servers store them as content. */
function clientConfig({ endpoint, region, credentials }: S3Settings, maxAttempts: number): S3ClientConfig {
  const custom: S3ClientConfig = endpoint
    ? {
        endpoint,
        forcePathStyle: true,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
      }
    : {};
  return {
    ...custom,
    region,
    ...(credentials && { credentials }),
    maxAttempts,
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, socketTimeout: IDLE_TIMEOUT_MS },
  };
}

async function upload(
  client: S3Client,
  Bucket: string,
  key: string,
  body: Readable | Uint8Array,
  options: PutOptions,
): Promise<BlobInfo> {
  const measured = measure(key, body, options);
  const task = new Upload({
    client,
    params: { Bucket, Key: key, Body: Readable.from(measured.chunks, { objectMode: false }) },
    partSize: PART_BYTES,
    queueSize: PARTS_AT_ONCE,
    leavePartsOnError: false,
  });
  try {
    await task.done();
  } catch (error) {
    throw measured.failure() ?? error; // the original failure, not that of the clean-up
  }
  return measured.info();
}

async function ensureBucket(client: S3Client, { bucket, endpoint, region }: S3Settings): Promise<void> {
  try {
    const found = await orMissing(client.send(new HeadBucketCommand({ Bucket: bucket })));
    if (!found)
      await createBucket(client, bucket, endpoint === null && region !== 'us-east-1' ? region : null);
  } catch (cause) {
    throw new Error(`S3 bucket ${bucket} at ${endpoint ?? 'AWS'} cannot be used: ${reason(cause)}`, {
      cause,
    });
  }
}

async function createBucket(client: S3Client, bucket: string, region: string | null): Promise<void> {
  const CreateBucketConfiguration = region ? { LocationConstraint: region as 'eu-west-1' } : undefined;
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket, CreateBucketConfiguration }));
  } catch (error) {
    if ((error as Error).name !== 'BucketAlreadyOwnedByYou') throw error; // created by another process meanwhile
  }
}

/** Null for a 404. */
async function orMissing<T>(request: Promise<T>): Promise<T | null> {
  try {
    return await request;
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw error;
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

/** If the connection to all addresses fails, the error is an AggregateError without a message. */
function reason(error: unknown): string {
  const { name, message, errors } = error as AggregateError;
  return message || errors?.map(inner => inner.message).join('; ') || name;
}

/** Runs `work` until it has succeeded once; concurrent calls share an attempt. */
function untilDone(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  return () => {
    running ??= work().catch(error => {
      running = null;
      throw error;
    });
    return running;
  };
}
