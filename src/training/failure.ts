// A run that fails because of user input: the job's error, in OpenAI's shape. Never a bug.
import type { MethodName } from './protocol.ts';

export class TrainingFailure extends Error {
  readonly code: string;
  /** The job's parameter. A setting of its method begins with a dot: `.hyperparameters.rank`. */
  readonly param: string | null;

  constructor(code: string, param: string | null, message: string) {
    super(message);
    this.name = 'TrainingFailure';
    this.code = code;
    this.param = param;
  }
}

/** As the request spells it: `method.supervised.hyperparameters.rank`. */
export const jobParam = (param: string | null, method: MethodName): string | null =>
  param?.startsWith('.') ? `method.${method}${param}` : param;
