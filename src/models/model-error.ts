// A model or adapter folder that cannot be used, said so that its owner can mend it. Not for bugs, and not an HTTP error.

export class ModelError extends Error {
  override readonly name = 'ModelError';
}

/** `a, b, c and 12 more`: long lists of tensors or modules, cut where a reader stops. */
export function listNames(names: readonly string[], limit = 8): string {
  const shown = names.slice(0, limit).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
