// Schema of metadata: key-value pairs that users attach to objects and filter lists by.
import { Type } from 'typebox';

export const Metadata = Type.Unsafe<Record<string, string>>({
  type: 'object',
  propertyNames: { maxLength: 64 },
  additionalProperties: { type: 'string', maxLength: 512 },
  maxProperties: 16,
  description: 'Up to 16 pairs, with keys of up to 64 and values of up to 512 characters.',
});
