// Items of an evaluation against the JSON Schema that its maker wrote. That schema is a stranger's: it must not stop this process.
import { createContext, Script } from 'node:vm';
import { Ajv } from 'ajv';
import { ApiError } from '../errors.ts';

/** For reading a schema, and for each call of its check: a pattern may backtrack without end, `uniqueItems` compares every pair. */
const TIME_LIMIT_MS = 2000;
const PARAM = 'data_source_config.item_schema';

export interface WrongItem {
  index: number;
  /** For people. */
  reason: string;
}

/** The first wrong one; null when all are right. Throws ApiError where that takes too long. */
export type ItemCheck = (items: readonly unknown[]) => WrongItem | null;

/** Throws ApiError for what is no schema. */
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

/** Runs functions of ours in a script, as Node stops a script, with all that it calls, after a time. */
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
