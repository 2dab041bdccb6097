// The environment of processes that compute: huge pages are asked for, and what somebody has set stays.
import { expect, test } from 'vitest';
import { computingEnvironment } from '../../src/engine/environment.ts';

const tunables = (before?: string) => computingEnvironment({ GLIBC_TUNABLES: before }).GLIBC_TUNABLES;

test('huge pages are asked for beside what is set already, and not against it', () => {
  expect(tunables()).toBe('glibc.malloc.hugetlb=1');
  expect(tunables('glibc.malloc.arena_max=2')).toBe('glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1');
  expect(tunables('glibc.malloc.hugetlb=0')).toBe('glibc.malloc.hugetlb=0');
});
