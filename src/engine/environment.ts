// Environment variables for compute processes: those that the loader and the C library read once, at process start.
import { cudaEnvironment } from './onnx/cuda.ts';

/**
 * Makes glibc's malloc use transparent huge pages for large blocks where Linux leaves that to the program (`madvise`,
 * most distributions' default). Other C libraries ignore it.
 * https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
 */
const HUGE_PAGES = 'glibc.malloc.hugetlb';

function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: before } = environment;
  if (before?.includes(HUGE_PAGES)) return environment;
  return { ...environment, GLIBC_TUNABLES: [...(before ? [before] : []), `${HUGE_PAGES}=1`].join(':') };
}

export const computingEnvironment = (environment = process.env): NodeJS.ProcessEnv =>
  cudaEnvironment(withHugePages(environment));
