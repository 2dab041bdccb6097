// The environment as one frozen Config: the only reader of process.env. `.env.example` lists the same variables.
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { machineBytes } from './engine/machine.ts';
import { type Prices, priceNames } from './metering/prices.ts';
import type { Network } from './webhooks/addresses.ts';

interface Variable<T> {
  readonly name: string;
  /** As it would be written in the environment; '' where unset means something of its own. */
  readonly default: string;
  readonly description: string;
  /** Throws an Error that says what is wrong with the text. */
  readonly parse: (text: string) => T;
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const GIB = 2 ** 30;

export const variables = {
  databaseUrl: variable(
    'DATABASE_URL',
    '',
    'Postgres 14 or newer. Empty: `start` runs its own Postgres in ANNEAL_DATA_DIR.',
    optional(databaseUrl),
  ),

  s3Bucket: variable(
    'S3_BUCKET',
    '',
    'Bucket for files and models. Empty: they are stored in ANNEAL_DATA_DIR.',
    optional(text),
  ),
  s3Endpoint: variable('S3_ENDPOINT', '', 'URL of an S3-compatible server. Empty: AWS.', optional(httpUrl)),
  s3Region: variable('S3_REGION', 'us-east-1', 'Region of the bucket.', text),
  awsAccessKeyId: variable(
    'AWS_ACCESS_KEY_ID',
    '',
    'Access key of the S3 server. Empty: the default AWS credential chain (profile, instance role).',
    optional(text),
  ),
  awsSecretAccessKey: variable('AWS_SECRET_ACCESS_KEY', '', 'Secret of that access key.', optional(text)),

  host: variable('HOST', '127.0.0.1', 'Address the api listens on; 0.0.0.0 for all interfaces.', text),
  port: variable('PORT', '8787', 'Port the api listens on; 0 for any free one.', integer(0, 65535)),
  trustedProxies: variable(
    'ANNEAL_TRUST_PROXY',
    '',
    'Reverse proxies whose X-Forwarded-For, -Proto and -Host are trusted: 10.0.0.0/8,127.0.0.1. Empty: none, and the audit log shows the proxy.',
    networks,
  ),
  apiKey: variable(
    'ANNEAL_API_KEY',
    '',
    'API key to create at the start if it does not exist. Empty: the first start creates one and prints it.',
    optional(apiKey),
  ),
  adminKey: variable(
    'ANNEAL_ADMIN_KEY',
    '',
    'Admin key to create at the start if it does not exist, for projects, keys, usage and limits (docs/operations.md).',
    optional(apiKey),
  ),
  organization: variable(
    'ANNEAL_ORGANIZATION',
    'personal',
    'Organization in the names of fine-tuned models: ft:{model}:{organization}:{suffix}:{id}.',
    organizationName,
  ),

  dataDirectory: variable(
    'ANNEAL_DATA_DIR',
    './.anneal',
    'Folder for work files, caches and logs; also for the database without DATABASE_URL and the objects without S3_BUCKET.',
    path,
  ),
  modelsDirectory: variable(
    'ANNEAL_MODELS_DIR',
    './models',
    'Folder whose subfolders are Hugging Face model folders, registered as base models at the start.',
    path,
  ),

  hubUrl: variable(
    'HF_ENDPOINT',
    '',
    'Hugging Face hub or mirror that `anneal models add` downloads from. Empty: the public hub.',
    optional(httpUrl),
  ),
  hubToken: variable(
    'HF_TOKEN',
    '',
    'Token for models on the hub that are private or gated.',
    optional(text),
  ),

  fileLimitBytes: variable(
    'ANNEAL_FILE_LIMIT_MB',
    '512',
    'Largest file that can be uploaded, in MiB.',
    mebibytes,
  ),
  prices: variable(
    'ANNEAL_PRICES',
    '{}',
    'Prices per million tokens, for /v1/organization/costs: {"anneal-tiny": {"input": 0.1, "cached_input": 0.05, "output": 0.4, "training": 3}, "*": {...}}.',
    prices,
  ),
  currency: variable('ANNEAL_CURRENCY', 'usd', 'ISO 4217 currency of these prices.', currency),
  engine: variable(
    'ANNEAL_ENGINE',
    'onnx',
    'Engine that runs the computations: onnx | tensorflow (after `npm run setup:tensorflow`).',
    oneOf('onnx', 'tensorflow'),
  ),
  device: variable(
    'ANNEAL_DEVICE',
    'auto',
    'Device of the engine: auto | cpu | cuda (after `npm run setup:cuda`) | webgpu.',
    oneOf('auto', 'cpu', 'cuda', 'webgpu'),
  ),
  precision: variable(
    'ANNEAL_PRECISION',
    'float32',
    'Precision of matrix products: float32 | bfloat16 (cuda only; faster, sums stay float32).',
    oneOf('float32', 'bfloat16'),
  ),
  threads: variable(
    'ANNEAL_THREADS',
    '',
    'Threads for training, and for answering requests, each. Empty: one per core.',
    threads,
  ),
  memoryBudgetBytes: variable(
    'ANNEAL_MEMORY_GB',
    '',
    'Most memory for training, in GiB. Empty: 70% of the free memory of the machine or container, which is never exceeded.',
    optional(gibibytes),
  ),
  servingMemoryBytes: variable(
    'ANNEAL_SERVING_GB',
    '',
    'Memory for answering requests, in GiB. Empty: a quarter of the memory of the machine or container.',
    servingMemory,
  ),
  servingQuantization: variable(
    'ANNEAL_SERVING_QUANTIZATION',
    'none',
    'Quantization of base weights for generating text: none | int16 | int8. Faster, but answers can differ (docs/operations.md).',
    oneOf('none', 'int16', 'int8'),
  ),
  workers: variable(
    'ANNEAL_WORKERS',
    '1',
    'Worker processes of `start`; each trains one job at a time.',
    integer(0, 64),
  ),
  checkpointSeconds: variable(
    'ANNEAL_CHECKPOINT_SECONDS',
    '300',
    'Seconds between checkpoints that a killed job resumes from.',
    integer(1, 86400),
  ),
  leaseSeconds: variable(
    'ANNEAL_LEASE_SECONDS',
    '60',
    'Seconds after which the job of an unresponsive worker passes to another one.',
    integer(2, 3600),
  ),

  webhookNetworks: variable(
    'ANNEAL_WEBHOOK_NETWORKS',
    '',
    'Private networks that webhooks may be sent to, also over http: 10.0.0.0/8,127.0.0.1/32. Empty: only public addresses, over https.',
    networks,
  ),

  graderUrl: variable(
    'ANNEAL_GRADER_URL',
    '',
    'OpenAI-compatible API, including /v1, that graders use for models not served here. Empty: none.',
    optional(httpUrl),
  ),
  graderApiKey: variable('ANNEAL_GRADER_API_KEY', '', 'API key of that API.', optional(text)),
  graderConcurrency: variable(
    'ANNEAL_GRADER_CONCURRENCY',
    '8',
    'Simultaneous requests to that API from each api and worker; others wait.',
    integer(1, 1000),
  ),
  graderEmbeddingModel: variable(
    'ANNEAL_GRADER_EMBEDDING_MODEL',
    '',
    'Embedding model, served here or by that API, for text_similarity with `cosine`. Empty: none.',
    optional(text),
  ),
  pythonGraders: variable(
    'ANNEAL_PYTHON_GRADERS',
    'on',
    'Python graders: on | isolated (only if they get a network namespace of their own) | off.',
    oneOf('on', 'isolated', 'off'),
  ),
  pythonGraderSeconds: variable(
    'ANNEAL_PYTHON_GRADER_SECONDS',
    '120',
    'Time limit of a Python grader for one answer, in seconds.',
    integer(1, 3600),
  ),
  pythonGraderMemoryBytes: variable(
    'ANNEAL_PYTHON_GRADER_MEMORY_MB',
    '1024',
    'Memory limit of a Python grader, in MiB.',
    mebibytesFrom(64, 4096),
  ),

  metricsToken: variable(
    'ANNEAL_METRICS_TOKEN',
    '',
    'Bearer token for /metrics (Prometheus), 8 to 200 printable characters. Empty: /metrics is off.',
    optional(apiKey),
  ),
  otlpEndpoint: variable(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    '',
    'OpenTelemetry collector for traces and metrics, http://host:4318. The other OTEL_* variables apply too. Empty: none.',
    optional(httpUrl),
  ),
  serviceName: variable(
    'OTEL_SERVICE_NAME',
    '',
    'Service name of this process in OpenTelemetry. Empty: anneal-api or anneal-worker.',
    optional(text),
  ),
  workerMetricsPort: variable(
    'ANNEAL_WORKER_METRICS_PORT',
    '',
    "Port of a worker's /metrics, with that token; several workers of `start` use this port and the next ones. Empty: off.",
    optional(integer(1, 65535)),
  ),

  moderationModel: variable(
    'ANNEAL_MODERATION_MODEL',
    '',
    'Classifier for /v1/moderations, whose labels are category names. Empty: not served.',
    optional(text),
  ),
  wandbUrl: variable(
    'WANDB_BASE_URL',
    'https://api.wandb.ai',
    'Weights & Biases server for jobs with a wandb integration.',
    httpUrl,
  ),
  wandbApiKey: variable(
    'WANDB_API_KEY',
    '',
    'API key of that server. Empty: jobs with a wandb integration are refused.',
    optional(text),
  ),

  logLevel: variable(
    'ANNEAL_LOG_LEVEL',
    'info',
    `Log level: ${LOG_LEVELS.join(' | ')}.`,
    oneOf(...LOG_LEVELS),
  ),
} satisfies Record<string, Variable<unknown>>;

export type Config = Readonly<{
  [Key in keyof typeof variables]: ReturnType<(typeof variables)[Key]['parse']>;
}>;

export class ConfigError extends Error {}

/** Reads the process's environment, and `.env` in the current folder for what is not set there. */
export function loadConfig(): Config {
  if (existsSync('.env')) process.loadEnvFile('.env');
  return readConfig(process.env);
}

/** Throws ConfigError with a line for every wrong variable. */
export function readConfig(environment: Record<string, string | undefined>): Config {
  const wrong: string[] = [];
  const config: Record<string, unknown> = {};
  for (const [key, { name, default: fallback, parse }] of Object.entries<Variable<unknown>>(variables)) {
    const given = environment[name]?.trim() || fallback;
    try {
      config[key] = parse(given);
    } catch (error) {
      wrong.push(`${name}="${isSecret(name) ? '...' : given}": ${(error as Error).message}`);
    }
  }
  wrong.push(...contradictions(config as Config));
  if (wrong.length > 0) throw new ConfigError(wrong.join('\n'));
  return Object.freeze(config as Config);
}

function contradictions(config: Config): string[] {
  const found: string[] = [];
  if (config.s3Endpoint && !config.s3Bucket)
    found.push('S3_ENDPOINT is set without S3_BUCKET: name the bucket');
  if (!config.awsAccessKeyId !== !config.awsSecretAccessKey) {
    found.push('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: one of them is empty');
  }
  return found;
}

function isSecret(name: string): boolean {
  return /KEY|TOKEN|DATABASE_URL/.test(name);
}

// ---- how a text is read

function variable<T>(
  name: string,
  fallback: string,
  description: string,
  parse: (text: string) => T,
): Variable<T> {
  return { name, default: fallback, description, parse };
}

function optional<T>(parse: (text: string) => T): (text: string) => T | null {
  return value => (value === '' ? null : parse(value));
}

function text(value: string): string {
  if (value === '') throw new Error('must not be empty');
  return value;
}

function path(value: string): string {
  return resolve(text(value));
}

function integer(minimum: number, maximum: number): (text: string) => number {
  return value => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < minimum || number > maximum) {
      throw new Error(`must be a whole number from ${minimum} to ${maximum}`);
    }
    return number;
  };
}

function threads(value: string): number {
  return value === '' ? availableParallelism() : integer(1, 1024)(value);
}

function servingMemory(value: string): number {
  return value === '' ? Math.floor(machineBytes() / 4) : gibibytes(value);
}

function gibibytes(value: string): number {
  const number = Number(value);
  if (!(number > 0) || number > 65536) throw new Error('must be a number of GiB greater than 0');
  return Math.floor(number * GIB);
}

function mebibytes(value: string): number {
  return mebibytesFrom(1, 2 ** 20)(value);
}

function mebibytesFrom(minimum: number, maximum: number): (text: string) => number {
  return value => integer(minimum, maximum)(value) * 2 ** 20;
}

function oneOf<const Choice extends string>(...choices: Choice[]): (text: string) => Choice {
  return value => {
    const found = choices.find(choice => choice === value);
    if (found === undefined) throw new Error(`must be one of ${choices.join(', ')}`);
    return found;
  };
}

function databaseUrl(value: string): string {
  if (!/^postgres(ql)?:\/\//.test(value) || !URL.canParse(value)) {
    throw new Error('must look like postgresql://user:password@host:5432/database');
  }
  return value;
}

function httpUrl(value: string): string {
  if (!/^https?:\/\//.test(value) || !URL.canParse(value))
    throw new Error('must look like https://host:port');
  return value.replace(/\/+$/, '');
}

function networks(value: string): readonly Network[] {
  return value
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
    .map(network);
}

/** `10.0.0.0/8`; an address alone is itself. */
function network(value: string): Network {
  const [address = '', length] = value.split('/');
  const version = isIP(address);
  const bits = version === 6 ? 128 : 32;
  const prefix = length === undefined ? bits : Number(length);
  if (!version || !/^\d*$/.test(length ?? '') || length === '' || prefix > bits)
    throw new Error(`'${value}' must look like 10.0.0.0/8 or fd00::/8`);
  return { address, prefix, family: version === 6 ? 'ipv6' : 'ipv4' };
}

function prices(value: string): Prices {
  const found = parseObject(value);
  const wrong = Object.keys(found).find(model => !isPrices(found[model]));
  if (wrong === undefined) return found as Prices;
  throw new Error(`'${wrong}' may have ${priceNames.join(', ')}, each a number of at least 0`);
}

function isPrices(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const isPrice = ([name, price]: [string, unknown]) =>
    (priceNames as readonly string[]).includes(name) && typeof price === 'number' && price >= 0;
  return Object.entries(value).every(isPrice);
}

function parseObject(value: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(value);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>;
  } catch {
    // said below, without the parser's words
  }
  throw new Error('must be a JSON object, by the names of models');
}

function currency(value: string): string {
  if (!/^[a-z]{3}$/.test(value)) throw new Error('must be three letters, such as usd');
  return value;
}

function apiKey(value: string): string {
  if (!/^[\x21-\x7e]{8,200}$/.test(value))
    throw new Error('must be 8 to 200 printable characters without spaces');
  return value;
}

function organizationName(value: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,38}$/.test(value)) {
    throw new Error('must be 1 to 39 of a-z, 0-9 and -, beginning with a letter or digit');
  }
  return value;
}
