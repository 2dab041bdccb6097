// One of a few texts, as a schema that says that it is a text: generated clients need the type.
import { type TSchemaOptions, Type } from 'typebox';

export function Choice<const Value extends string>(values: readonly Value[], options: TSchemaOptions = {}) {
  return Type.Unsafe<Value>({ type: 'string', enum: [...values], ...options });
}
