// What every source of the native library gets. Which sources there are is in setup-tensorflow.ts.

/** What a source fills: the unpacked npm package, whose lib/napi-v8/tfjs_binding.node is to be loadable afterwards. */
export interface Target {
  readonly device: 'cpu' | 'cuda';
  /** The folder of the whole set-up. */
  readonly home: string;
  readonly packageFolder: string;
  readonly packageVersion: string;
}
