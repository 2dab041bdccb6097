// The engine's and the models' tests without the service's: what a machine with a device runs, where there is no database.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: `${import.meta.dirname}/../..`,
  test: { include: ['tests/{engine,models}/**/*.test.ts'], testTimeout: 300_000, hookTimeout: 300_000 },
});
