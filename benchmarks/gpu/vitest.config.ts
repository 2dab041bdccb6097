// Of all tests those that compare devices with the numbers of others, and what stays on them: they need no database, only npm packages.
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: [
      'tests/engine/{kernels,gradients,products,device-memory}.test.ts',
      'tests/models/{golden,encoders}.test.ts',
      'tests/serving/{generator,seq2seq}.test.ts',
      'tests/training/{trajectory,device-state}.test.ts',
    ],
    // A first run on a device compiles its kernels.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
