// `npm run verify`: lint, type check and all tests, with a common count. The last line is `N passed, N failed`; lint and type check count
// as one check each.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Count {
  readonly passed: number;
  readonly failed: number;
}

const root = join(import.meta.dirname, '..');
const bin = (name: string) => join(root, 'node_modules', '.bin', name);

const checks: Record<string, () => Promise<Count>> = {
  lint: () => oneCheck(bin('biome'), ['check', '--error-on-warnings']),
  types: () => oneCheck(bin('tsc'), ['--noEmit']),
  tests: runTests,
};

const total = { passed: 0, failed: 0 };
for (const [name, check] of Object.entries(checks)) {
  process.stdout.write(`\n== ${name}\n`);
  const { passed, failed } = await check();
  total.passed += passed;
  total.failed += failed;
}
process.stdout.write(`\n${total.passed} passed, ${total.failed} failed\n`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;

async function oneCheck(program: string, args: string[]): Promise<Count> {
  const failed = (await run(program, args)) !== 0;
  return { passed: failed ? 0 : 1, failed: failed ? 1 : 0 };
}

/** Counts of vitest's report; errors outside of tests (a file that does not load, a crash) count as failures too. */
async function runTests(): Promise<Count> {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-verify-'));
  const report = join(folder, 'report.json');
  try {
    const code = await run(bin('vitest'), [
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ]);
    const { numPassedTests: passed, numFailedTests, testResults } = await readReport(report);
    const brokenFiles = testResults.filter(
      ({ status, assertionResults }) =>
        status === 'failed' && !assertionResults.some(each => each.status === 'failed'),
    );
    const failed = numFailedTests + brokenFiles.length;
    return { passed, failed: failed === 0 && code !== 0 ? 1 : failed };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { status: string; assertionResults: { status: string }[] }[];
}

async function readReport(path: string): Promise<Report> {
  const text = await readFile(path, 'utf8').catch(() => null);
  return text ? JSON.parse(text) : { numPassedTests: 0, numFailedTests: 1, testResults: [] };
}

/** Resolves to the exit code. Ctrl-C reaches the child directly, SIGTERM is forwarded. */
function run(program: string, args: string[]): Promise<number> {
  const child = spawn(program, args, { cwd: root, stdio: 'inherit' });
  const forward = () => child.kill('SIGTERM');
  process.once('SIGTERM', forward);
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('exit', (code, signal) => {
      process.off('SIGTERM', forward);
      if (signal) process.exit(1);
      done(code ?? 1);
    });
  });
}
