// Ids of objects: a prefix for the kind, and random letters and digits.
import { randomBytes } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
/** The largest multiple of 62 below 256. Bytes from there on are rejected, so that all characters are equally likely. */
const BYTES_KEPT = 248;

const prefixes = {
  file: 'file-',
  upload: 'upload_',
  uploadPart: 'part_',
  job: 'ftjob-',
  event: 'ftevent-',
  checkpoint: 'ftckpt_',
  project: 'proj_',
  organization: 'org-',
  apiKey: 'key_',
  serviceAccount: 'svc_acct_',
  auditLog: 'audit_log-',
  chatCompletion: 'chatcmpl-',
  completion: 'cmpl-',
  toolCall: 'call_',
  response: 'resp_',
  message: 'msg_',
  functionCall: 'fc_',
  functionCallOutput: 'fco_',
  request: 'req_',
  permission: 'cp_',
  eval: 'eval_',
  evalRun: 'evalrun_',
  modelExport: 'export_',
  outputItem: 'outputitem_',
  moderation: 'modr-',
  batch: 'batch_',
  batchRequest: 'batch_req_',
  webhookEndpoint: 'whe_',
  webhookDelivery: 'wh_',
  webhookEvent: 'evt_',
} as const;

export function newId(kind: keyof typeof prefixes): string {
  return prefixes[kind] + randomText(24);
}

/** A secret key with more than 192 bits of entropy, so that storing its plain SHA-256 is safe. */
export function newSecretKey(kind: 'anneal' | 'admin' | 'svcacct' = 'anneal'): string {
  return `sk-${kind}-${randomText(40)}`;
}

/** The name under which a checkpoint of a fine-tuned model is served. */
export function checkpointModelId(model: string, step: number): string {
  return `${model}:ckpt-step-${step}`;
}

export function randomText(length: number): string {
  let result = '';
  while (result.length < length) {
    for (const byte of randomBytes(2 * length)) {
      if (byte < BYTES_KEPT && result.length < length) result += ALPHABET[byte % ALPHABET.length];
    }
  }
  return result;
}
