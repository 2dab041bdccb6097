// Validates items of an evaluation by its JSON Schema. The schema is untrusted: it must not block this process.
import { createContext, Script } from 'node:vm';
import { Ajv } from 'ajv';
import { ApiError } from '../errors.ts';

/** Time limit for compiling a schema and for each validation: patterns may backtrack exponentially, `uniqueItems` compares all pairs. */
const TIME_LIMIT_MS = 2000;
const PARAM = 'data_source_config.item_schema';

export interface WrongItem {
  index: number;
  /** For error messages. */
  reason: string;
}

/** The first invalid item; null when all are valid. Throws ApiError on timeout. */
export type ItemCheck = (items: readonly unknown[]) => WrongItem | null;

/** Throws ApiError for an invalid schema. */
export function compileItemSchema(schema: Record<string, unknown>): ItemCheck {
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const withinTime = openTimeLimit();
  const validate = withinTime('the schema takes too long to read', () => {
    try {
      return ajv.compile(schema);
    } catch (cause) {
      throw invalid((cause as Error).message, cause);
    }
  });
  return items =>
    withinTime('it takes too long on these items', () => {
      const index = items.findIndex(item => !validate(item));
      return index < 0 ? null : { index, reason: ajv.errorsText(validate.errors, { dataVar: 'item' }) };
    });
}

const runWork = new Script('work()');

/** Calls a function from a vm script, because only scripts have a timeout that also covers synchronous code. */
function openTimeLimit(): <Result>(tooLong: string, work: () => Result) => Result {
  const context = createContext({});
  return (tooLong, work) => {
    context.work = work;
    try {
      return runWork.runInContext(context, { timeout: TIME_LIMIT_MS }) as ReturnType<typeof work>;
    } catch (error) {
      const isLate = (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
      throw isLate ? invalid(tooLong, error) : error;
    }
  };
}

const invalid = (why: string, cause: unknown): ApiError =>
  new ApiError('invalid_value', `Invalid '${PARAM}': ${why}.`, { param: PARAM, cause });
