// README, CHANGELOG and docs/ name what there is: pages, anchors, files, scripts and settings. What they say of these is not checked here.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import packageJson from '../package.json' with { type: 'json' };
import { variables } from '../src/config.ts';

const root = join(import.meta.dirname, '..');
const pages = ['README.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: root })].map(path => {
  const text = readFileSync(join(root, path), 'utf8');
  return { path, text, prose: text.replace(/^```.*?^```$/gms, '').replace(/`[^`\n]*`/g, '') };
});

const all = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, found]) => found!);

/** As GitHub makes them: lower case, without punctuation, spaces as dashes. */
const slugOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

const anchorsOf = (path: string): Set<string> => {
  const text = readFileSync(join(root, path), 'utf8').replace(/^```.*?^```$/gms, '');
  return new Set([...all(text, /^#+ (.+)$/gm).map(slugOf), ...all(text, /<a id="([^"]+)">/g)]);
};

function isBroken(link: string, page: string): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? page : join(dirname(page), path);
  if (!existsSync(join(root, target))) return true;
  return anchor !== undefined && !anchorsOf(target).has(anchor);
}

/** Settings of tests alone, which no process of the service reads. */
const OF_TESTS = /^ANNEAL_TEST_/;
const settings: string[] = Object.values(variables).map(({ name }) => name);

describe.each(pages)('$path', ({ path, text, prose }) => {
  test('links lead to pages and headings that there are', () => {
    const links = all(prose, /\]\(([^)]+)\)/g).filter(link => !/^https?:/.test(link));
    expect(links.filter(link => isBroken(link, path))).toEqual([]);
  });

  test('files that are named are there', () => {
    const named = all(
      text,
      /`((?:src|tests|docs|benchmarks|scripts|migrations|samples|openapi)\/[\w./-]*\w)`/g,
    );
    expect(named.filter(file => !existsSync(join(root, file)))).toEqual([]);
  });

  test('scripts of npm that are named are in package.json', () => {
    const named = all(text, /npm run ([\w:]+)/g);
    expect(named.filter(name => !(name in packageJson.scripts))).toEqual([]);
  });

  test('settings that are named are settings', () => {
    const named = all(text, /\b(ANNEAL_[A-Z0-9_]*[A-Z0-9])\b/g).filter(name => !OF_TESTS.test(name));
    expect(named.filter(name => !settings.includes(name))).toEqual([]);
  });
});
