// A time in a request, as unix seconds.
import { Type } from 'typebox';

/** The end of the year 9999: later ones are none that a Date, or Postgres, has. */
const LATEST = 253_402_300_799;

export const UnixSeconds = (description: string) =>
  Type.Integer({ minimum: 0, maximum: LATEST, description });
