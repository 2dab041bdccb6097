// How the tests run: those that need the service share one Postgres server; the rest needs nothing.
import { configDefaults, defineConfig } from 'vitest/config';

const service = [
  'cli',
  'clients',
  'fuzz',
  'metering',
  'queue',
  'routes',
  'serving',
  'store',
  'support',
  'system',
].map(folder => `tests/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    setupFiles: ['tests/support/random-seed.ts', 'tests/support/scratch.ts'],
    projects: [
      {
        extends: true,
        test: { name: 'service', include: service, globalSetup: 'tests/support/postgres-server.ts' },
      },
      {
        extends: true,
        test: {
          name: 'parts',
          include: ['tests/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...service],
        },
      },
    ],
  },
});
