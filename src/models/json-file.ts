// Reads the JSON files of model and adapter folders.

import { readFile } from 'node:fs/promises';
import { isObject } from '../json-object.ts';
import { ModelError } from './model-error.ts';

/** The object in the file; null where there is no such file. Throws ModelError for anything but a JSON object. */
export async function readJsonFile(file: string): Promise<Readonly<Record<string, unknown>> | null> {
  const text = await readText(file);
  if (text === null) return null;
  const value = parse(file, text);
  if (isObject(value)) return value;
  throw new ModelError(`${file} is not a JSON object`);
}

/** The list of objects in the file; null where there is no such file. Throws ModelError for anything else. */
export async function readJsonList(file: string): Promise<Readonly<Record<string, unknown>>[] | null> {
  const text = await readText(file);
  if (text === null) return null;
  const value = parse(file, text);
  if (Array.isArray(value) && value.every(isObject)) return value;
  throw new ModelError(`${file} is not a list of JSON objects`);
}

/** Null where there is no such file. */
export const readText = (file: string): Promise<string | null> =>
  readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw error;
  });

function parse(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ModelError(`${file} is not JSON`, { cause });
  }
}
