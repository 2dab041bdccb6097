import { expect, test } from 'vitest';
import { fineTunedModelName } from '../../src/queue/model-name.ts';

const parts = { base: 'anneal-tiny', organization: 'acme', jobId: 'ftjob-1' };

test('ft:{base}:{organization}:{suffix}:{8}, the same for a job whenever it is asked', () => {
  const name = fineTunedModelName({ ...parts, suffix: 'tickets_v1.2' });
  expect(name).toMatch(/^ft:anneal-tiny:acme:tickets_v1\.2:[A-Za-z0-9]{8}$/);
  expect(fineTunedModelName({ ...parts, suffix: 'tickets_v1.2' })).toBe(name);
  expect(fineTunedModelName({ ...parts, suffix: null })).toMatch(/^ft:anneal-tiny:acme::[A-Za-z0-9]{8}$/);
});

test('a suffix cannot add a part to the name, nor what a URL would have to escape', () => {
  const name = fineTunedModelName({ ...parts, suffix: 'a:b/ü?#  c' });
  expect(name).toMatch(/^ft:anneal-tiny:acme:a-b-c:[A-Za-z0-9]{8}$/);
  expect(encodeURI(name)).toBe(name);
});
