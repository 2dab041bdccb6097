// The environment of a process that computes for long: what the loader and the C library read once, when it starts.
import { cudaEnvironment } from './onnx/cuda.ts';

/**
 * Blocks of megabytes lie in huge pages where Linux leaves that to the program (`madvise`, as most distributions have it); other C libraries
 * than glibc do not read it. https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
 */
const HUGE_PAGES = 'glibc.malloc.hugetlb';

function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: before } = environment;
  if (before?.includes(HUGE_PAGES)) return environment;
  return { ...environment, GLIBC_TUNABLES: [...(before ? [before] : []), `${HUGE_PAGES}=1`].join(':') };
}

export const computingEnvironment = (environment = process.env): NodeJS.ProcessEnv =>
  cudaEnvironment(withHugePages(environment));
