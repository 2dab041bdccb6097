// A model or adapter folder that cannot be used, with a message for its owner. Not for bugs, and not an HTTP error.

export class ModelError extends Error {
  override readonly name = 'ModelError';
}

/** `a, b, c and 12 more`: truncates long lists of names. */
export function listNames(names: readonly string[], limit = 8): string {
  const shown = names.slice(0, limit).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
