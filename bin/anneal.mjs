#!/usr/bin/env node
// `anneal ...`: runs src/main.ts under Node 24, which scripts/with-node.mjs brings where the machine's is older.
process.argv.splice(2, 0, 'src/main.ts');
await import('../scripts/with-node.mjs');
