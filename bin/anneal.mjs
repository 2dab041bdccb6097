#!/usr/bin/env node
// `anneal ...`: runs src/main.ts under Node 24, which scripts/with-node.mjs brings where the machine's is older.
// `anneal api` with the flags of `npm run api`; src/start.ts says what they are for.
const flags = process.argv[2] === 'api' ? ['--max-semi-space-size=4'] : [];
process.argv.splice(2, 0, ...flags, 'src/main.ts');
await import('../scripts/with-node.mjs');
