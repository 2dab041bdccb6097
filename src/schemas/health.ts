// API schemas of health checks.
import { Type } from 'typebox';
import { Choice } from './choice.ts';

export const Health = Type.Object(
  { status: Type.Literal('ok'), version: Type.String() },
  { $id: 'Health', description: 'The process answers.' },
);

export const Readiness = Type.Object(
  {
    status: Choice(['ready', 'unavailable']),
    checks: Type.Object({
      database: Type.String({ description: '`ok`, or what is wrong.' }),
      object_store: Type.String(),
      queue: Type.String(),
    }),
  },
  { $id: 'Readiness', description: "Whether the service's dependencies answer." },
);
