// Folders opened for classes and numbers: which class of transformers they become, and which tensors are of the head.
import { expect, test } from 'vitest';
import { openModel, requireCausal } from '../../src/models/registry.ts';
import { sequenceHead } from '../../src/models/sequence-head.ts';
import { goldenDirectory } from './golden.ts';

const ENCODER_DECODERS = [
  'classification_head.dense.weight',
  'classification_head.dense.bias',
  'classification_head.out_proj.weight',
  'classification_head.out_proj.bias',
] as const;

test.each([
  ['llama3', 'LlamaForSequenceClassification', 'last', ['score.weight'], []],
  ['gpt2', 'GPT2ForSequenceClassification', 'last', ['score.weight'], []],
  ['gpt-neox', 'GPTNeoXForSequenceClassification', 'last', ['score.weight'], ['embed_out.weight']],
  ['gemma3', 'Gemma3TextForSequenceClassification', 'last', ['score.weight'], []],
  [
    'bert',
    'BertForSequenceClassification',
    'cls',
    ['bert.pooler.dense.weight', 'bert.pooler.dense.bias', 'classifier.weight', 'classifier.bias'],
    ['bert.pooler.dense.weight'],
  ],
  [
    'bert-model',
    'BertForSequenceClassification',
    'cls',
    ['bert.pooler.dense.weight', 'bert.pooler.dense.bias', 'classifier.weight', 'classifier.bias'],
    ['bert.pooler.dense.weight'],
  ],
  ['t5', 'T5ForSequenceClassification', 'last', ENCODER_DECODERS, []],
  ['t5-v1.1', 'T5ForSequenceClassification', 'last', ENCODER_DECODERS, ['lm_head.weight']],
  ['bart', 'BartForSequenceClassification', 'last', ENCODER_DECODERS, ['final_logits_bias']],
  ['bart-base', 'BartForSequenceClassification', 'last', ENCODER_DECODERS, []],
  ['marian', 'MarianForSequenceClassification', 'last', ENCODER_DECODERS, ['final_logits_bias']],
] as const)('%s is opened as %s', async (name, served, pooling, tensors, inFile) => {
  const model = await openModel(goldenDirectory(name), 'sequence');
  expect(model).toMatchObject({ served, outputWeight: null });
  const head = sequenceHead(model, 3);
  expect(head.pooling).toBe(pooling);
  expect(Object.keys(head.tensors)).toEqual(tensors);
  for (const tensor of inFile) expect(model.leftOut).toHaveProperty([tensor]);
  expect(
    Object.keys(model.weights).filter(weight => /^(lm_head|embed_out|cls|final_logits_bias)/.test(weight)),
  ).toEqual([]);
  const shapes = Object.values(head.tensors);
  expect(shapes.at(tensors[0] === 'score.weight' ? 0 : -2)).toEqual([3, model.shape.hiddenSize]);
});

test('a model that is opened as it was saved keeps its output projection', async () => {
  const model = await openModel(goldenDirectory('llama3'));
  expect(model.served).toBe('LlamaForCausalLM');
  expect(model.outputWeight).not.toBeNull();
});

test('a decoder with a vocabulary of its own cannot read the source', async () => {
  await expect(openModel(goldenDirectory('marian-two'), 'sequence')).rejects.toThrow(
    'its decoder would read the source, and has a vocabulary of its own',
  );
});

test('a causal model without its output projection is refused where texts are continued', async () => {
  const model = await openModel(goldenDirectory('llama3'), 'sequence');
  expect(() => requireCausal(model)).toThrow('llama has no output projection here: it cannot continue text');
});
