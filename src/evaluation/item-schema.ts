// Items of an evaluation against the JSON Schema that its maker wrote. That schema is a stranger's: it must not stop this process.
import { createContext, Script } from 'node:vm';
import { Ajv, type Options } from 'ajv';
import { ApiError } from '../errors.ts';

/** An expression that takes longer for one text backtracks without end. */
const PATTERN_MS = 100;
const PARAM = 'data_source_config.item_schema';

/** What is wrong with an item, for people; null: nothing. */
export type ItemCheck = (item: unknown) => string | null;

/** Throws ApiError for what is no schema. */
export function compileItemSchema(schema: Record<string, unknown>): ItemCheck {
  const ajv = new Ajv({ strict: false, validateFormats: false, code: { regExp: boundedRegExp } });
  try {
    const validate = ajv.compile(schema);
    return item => (validate(item) ? null : ajv.errorsText(validate.errors, { dataVar: 'item' }));
  } catch (cause) {
    const message = `Invalid '${PARAM}': ${(cause as Error).message}.`;
    throw new ApiError('invalid_value', message, { param: PARAM, cause });
  }
}

const runTest = new Script('expression.test(text)');

/** A regular expression that is stopped when it takes too long. */
const boundedRegExp: NonNullable<NonNullable<Options['code']>['regExp']> = Object.assign(
  (pattern: string, flags: string) => {
    const context = createContext({ expression: new RegExp(pattern, flags), text: '' });
    return {
      test(text: string): boolean {
        context.text = text;
        return runInTime(() => runTest.runInContext(context, { timeout: PATTERN_MS }) as boolean, pattern);
      },
    };
  },
  { code: 'boundedRegExp' },
);

function runInTime(test: () => boolean, pattern: string): boolean {
  try {
    return test();
  } catch (cause) {
    const message = `Invalid '${PARAM}': the pattern '${pattern}' takes too long on an item.`;
    throw new ApiError('invalid_value', message, { param: PARAM, cause });
  }
}
