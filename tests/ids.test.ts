import { expect, test } from 'vitest';
import { checkpointModelId, newId, newSecretKey, randomText } from '../src/ids.ts';

test('ids carry their prefix and are all different', () => {
  const ids = Array.from({ length: 1000 }, () => newId('file'));
  expect(new Set(ids).size).toBe(1000);
  for (const id of ids) expect(id).toMatch(/^file-[A-Za-z0-9]{24}$/);
  expect(newId('job')).toMatch(/^ftjob-/);
  expect(newSecretKey()).toMatch(/^sk-anneal-[A-Za-z0-9]{40}$/);
});

test('every character is as likely as every other', () => {
  const counts = new Map<string, number>();
  for (const character of randomText(62_000)) counts.set(character, (counts.get(character) ?? 0) + 1);
  expect(counts.size).toBe(62);
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(200); // 6 standard deviations
});

test('checkpoints are named as OpenAI names them', () => {
  expect(checkpointModelId('ft:b:o:s:abcdefgh', 20)).toBe('ft:b:o:s:abcdefgh:ckpt-step-20');
});
