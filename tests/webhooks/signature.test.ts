import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { newSigningSecret, secretHint, signatureHeaders } from '../../src/webhooks/signature.ts';

const client = new OpenAI({ apiKey: 'none' });

test("signs the vector of OpenAI's own tests", () => {
  const message = {
    id: 'wh_685c059ae39c8190af8c71ed1022a24d',
    timestamp: 1750861210,
    body: '{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, "type": "response.completed", "data": {"id": "resp_123"}}',
  };
  expect(signatureHeaders(message, ['whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c='])).toEqual({
    'webhook-id': message.id,
    'webhook-timestamp': '1750861210',
    'webhook-signature': 'v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=',
  });
});

test('any of the secrets that signed verifies, and no other', async () => {
  const secrets = [newSigningSecret(), newSigningSecret()];
  const body = '{"type": "batch.completed"}';
  const headers = signatureHeaders({ id: 'wh_1', timestamp: Math.floor(Date.now() / 1000), body }, secrets);
  for (const secret of secrets)
    expect(await client.webhooks.unwrap(body, headers, secret)).toEqual({ type: 'batch.completed' });
  await expect(client.webhooks.unwrap(body, headers, newSigningSecret())).rejects.toThrow('does not match');
  await expect(client.webhooks.unwrap(`${body} `, headers, secrets[0]!)).rejects.toThrow('does not match');
});

test('secrets are drawn, and only their ends are shown', () => {
  const secret = newSigningSecret();
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(newSigningSecret()).not.toBe(secret);
  expect(secretHint(secret)).toBe(`whsec_...${secret.slice(-4)}`);
});
