// Interface of the sources of the native library, which are listed in setup-tensorflow.ts.

/** Where a source installs: the unpacked npm package, whose lib/napi-v8/tfjs_binding.node must be loadable afterwards. */
export interface Target {
  readonly device: 'cpu' | 'cuda';
  /** Root folder of the setup. */
  readonly home: string;
  readonly packageFolder: string;
  readonly packageVersion: string;
}
