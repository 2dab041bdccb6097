// An enum of strings that also has `type: string`, which client generators need.
import { type TSchemaOptions, Type } from 'typebox';

export function Choice<const Value extends string>(values: readonly Value[], options: TSchemaOptions = {}) {
  return Type.Unsafe<Value>({ type: 'string', enum: [...values], ...options });
}
