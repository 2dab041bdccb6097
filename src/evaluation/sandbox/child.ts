// The process that runs Python graders: Pyodide, in a Node without access to anything outside. Reads a line of JSON from stdin, writes
// one to stdout. Not a security boundary by itself; see confinement.ts for the other layers.
import { constants, writeSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { createInterface } from 'node:readline';
import type { PyodideAPI } from 'pyodide';
import type { PythonAnswer } from './protocol.ts';

const PAGE_BYTES = 65_536;

/** Globals of the language, and those that Pyodide still needs. */
const KEPT_GLOBALS = new Set(
  `Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date Promise RegExp Error
  AggregateError EvalError RangeError ReferenceError SyntaxError TypeError URIError SuppressedError globalThis JSON Math Intl
  ArrayBuffer SharedArrayBuffer Atomics DataView Uint8Array Int8Array Uint16Array Int16Array Uint32Array Int32Array Float32Array
  Float64Array Uint8ClampedArray BigUint64Array BigInt64Array BigInt Map Set WeakMap WeakSet WeakRef FinalizationRegistry Proxy
  Reflect Iterator decodeURI decodeURIComponent encodeURI encodeURIComponent escape unescape isFinite isNaN WebAssembly
  TextDecoder TextEncoder URL URLSearchParams performance crypto setTimeout clearTimeout setInterval clearInterval setImmediate
  clearImmediate queueMicrotask`.split(/\s+/),
);

/** Properties that Node itself still needs of its process object, which graders cannot reach. */
const KEPT_OF_PROCESS = new Set([
  'nextTick',
  'emit',
  'exitCode',
  '_exiting',
  'domain',
  'versions',
  'reallyExit',
]);

/** Each call has its own namespace. */
const GRADE = `
import json, math, traceback

def answer(question):
    question = json.loads(question)
    names = {"__name__": "grader"}
    try:
        exec(compile(question["source"], "<grader>", "exec"), names)
        score = names["grade"](question["sample"], question["item"])
        if not isinstance(score, (int, float)):
            raise TypeError(f"grade() must return a float, not {type(score).__name__}")
        score = float(score)
        if not math.isfinite(score):
            raise ValueError(f"grade() must return a finite number, not {score}")
        return json.dumps({"type": "score", "score": score})
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<grader>"]
        text = "".join(traceback.format_exception_only(error)).strip()
        place = f"line {lines[-1]}: " if lines else ""
        return json.dumps({"type": "error", "message": (place + text)[:2000]})

answer
`;

/** TypeScript declares WebAssembly only in the DOM library. */
interface WasmMemory {
  buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** Makes Python raise MemoryError at the limit. */
function limitMemory(limitBytes: number): void {
  const { prototype } = (globalThis as unknown as { WebAssembly: { Memory: { prototype: WasmMemory } } })
    .WebAssembly.Memory;
  const grow = prototype.grow;
  prototype.grow = function (this: WasmMemory, pages: number) {
    if (this.buffer.byteLength + pages * PAGE_BYTES <= limitBytes) return grow.call(this, pages);
    throw new RangeError('the memory limit is reached');
  };
}

async function loadPython(url: string): Promise<PyodideAPI> {
  // Emscripten reads the flags of `open` through `process.binding`, which Node's permission model denies.
  Object.assign(process, { binding: () => ({ fs: constants }) });
  const { loadPyodide } = (await import(url)) as typeof import('pyodide');
  return loadPyodide({
    jsglobals: Object.create(null) as object,
    env: { HOME: '/home/pyodide', LANG: 'en_US.UTF-8', _: 'python' },
    stdin: () => null as unknown as string,
    stdout: () => undefined,
    stderr: () => undefined,
  });
}

/** Disables module loading and removes Node's globals and its process object. */
function closeDoors(): void {
  registerHooks({
    resolve(specifier) {
      throw new Error(`${specifier} cannot be loaded here`);
    },
  });
  const real = process;
  const { version, versions, platform, arch, release } = real;
  for (const name of Object.getOwnPropertyNames(globalThis))
    if (!KEPT_GLOBALS.has(name)) Reflect.deleteProperty(globalThis, name);
  for (const name of Object.getOwnPropertyNames(real))
    if (!KEPT_OF_PROCESS.has(name)) Reflect.deleteProperty(real, name);
  const value = Object.freeze({ version, versions, platform, arch, release });
  Object.defineProperty(globalThis, 'process', { value });
}

const [pyodideUrl, memoryBytes] = process.argv.slice(2) as [string, string];
/** Created before Python is loaded, so that the iterator buffers lines until then. */
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
limitMemory(Number(memoryBytes));
const python = await loadPython(pyodideUrl);
const answer = python.runPython(GRADE) as (question: string) => string;
closeDoors();
const say = (line: string): void => void writeSync(1, `${line}\n`);
say(JSON.stringify({ type: 'ready' } satisfies PythonAnswer));
for await (const question of lines) say(answer(question));
