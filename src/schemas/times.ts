// A time in a request, as unix seconds.
import { Type } from 'typebox';

/** End of the year 9999. Values far beyond it are valid neither as a Date nor in Postgres. */
const LATEST = 253_402_300_799;

export const UnixSeconds = (description: string) =>
  Type.Integer({ minimum: 0, maximum: LATEST, description });
