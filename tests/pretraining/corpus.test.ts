import { describe, expect, test } from 'vitest';
import { createDocument, type Document } from '../../src/pretraining/corpus.ts';

const documents = Array.from({ length: 4000 }, (_, i) => createDocument(3, i));
const textOf = (document: Document) =>
  document.kind === 'text' ? document.text : document.messages.map(({ content }) => content).join('\n');

describe('the pre-training text', () => {
  test('a document depends on its seed and number alone', () => {
    expect(createDocument(3, 1234)).toEqual(documents[1234]);
    expect(createDocument(4, 1234)).not.toEqual(documents[1234]);
  });

  test('no template shows through', () => {
    for (const text of documents.map(textOf)) expect(text).not.toMatch(/[{}|]|undefined|\[object| {2}/);
  });

  test('sentences begin with a capital, and articles fit the word after them', () => {
    const prose = documents.filter(({ kind }) => kind === 'text').map(textOf);
    for (const text of prose) {
      expect(text).toMatch(/^["A-Z]/);
      expect(text).not.toMatch(/[a-z][.] [a-z]/);
      expect(text).not.toMatch(/\b[Aa] [aeio]|\b[Aa]n [bcdfgjklmnpqrstvwxz]/);
    }
  });

  test('it uses more than 1500 different words', () => {
    const words = new Set(
      documents.flatMap(
        document =>
          textOf(document)
            .toLowerCase()
            .match(/[a-z]{2,}/g) ?? [],
      ),
    );
    expect(words.size).toBeGreaterThan(1500);
  });

  test('a conversation begins with a system or user message and ends with an answer; roles take turns', () => {
    const chats = documents.flatMap(document => (document.kind === 'chat' ? [document.messages] : []));
    expect(chats.length).toBeGreaterThan(1000);
    for (const messages of chats) {
      const turns = messages.filter(({ role }) => role !== 'system');
      expect(messages.slice(1).every(({ role }) => role !== 'system')).toBe(true);
      turns.forEach(({ role, content }, i) => {
        expect(role).toBe(i % 2 === 0 ? 'user' : 'assistant');
        expect(content).not.toBe('');
      });
      expect(turns.length % 2).toBe(0);
    }
  });

  test('the answers of reading questions stand in the text that was given', () => {
    const reading = documents.flatMap(document => {
      if (document.kind !== 'chat') return [];
      const [system, user, assistant] = document.messages;
      return system?.role === 'system' && user!.content.includes('\n')
        ? [{ text: user!.content, answer: assistant!.content }]
        : [];
    });
    expect(reading.length).toBeGreaterThan(50);
    const words = (text: string) => text.toLowerCase().match(/[a-z]+/g)!;
    const known = new Set(['it', 'was', 'is', 'the', 'of', 'a', 'an', 'job', 'in', 'got', 'has']);
    for (const { text, answer } of reading) {
      const given = new Set(words(text));
      expect(words(answer).filter(word => !given.has(word) && !known.has(word))).toEqual([]);
    }
  });

  test("nothing of the samples' task: no answer is one of its teams", () => {
    const teams = ['delivery', 'billing', 'returns', 'account', 'technical', 'feedback'];
    for (const document of documents) {
      if (document.kind !== 'chat') continue;
      for (const { role, content } of document.messages)
        if (role === 'assistant') expect(teams).not.toContain(content.toLowerCase().replace(/\W/g, ''));
    }
  });
});
