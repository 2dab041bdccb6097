// What the fuzzer is told: the document, keys, ids that exist, what it holds answers to, and what it leaves alone and why.

export interface FuzzerSetting {
  key: string;
  adminKey: string;
  /** Place of a name in requests, such as `body.model` -> names that exist. */
  known: Record<string, string[]>;
}

/** Operation -> why it is left out. Their schemas and errors are held to the document by the other tests. */
const LEFT_OUT: Record<string, string> = {
  deleteProjectApiKey: "would delete the fuzzer's own key",
  updateProjectApiKey: "would take the scopes of the fuzzer's own key",
  deleteAdminApiKey: "would delete the fuzzer's own key",
  archiveProject: "would archive the fuzzer's own project",
  updateProjectRateLimit: 'would have every later request answered with 429',
  updateProjectQuotas: 'would have every later job refused',
  deleteModel: 'would leave no model to ask',
};

const CHECKS = [
  'ignored_auth',
  'negative_data_rejection',
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
];

/** A `schemathesis.toml`. Of names that exist one is taken in 7 of 10 requests. */
export function fuzzerConfig({ key, adminKey, known }: FuzzerSetting): string {
  const names = Object.entries(known);
  return `
continue-on-failure = true
warnings = false
cache.enabled = false
[auth.openapi]
ApiKey = { bearer = "${key}" }
AdminApiKey = { bearer = "${adminKey}" }
[checks]
enabled = false
${CHECKS.map(check => `${check}.enabled = true`).join('\n')}
[dictionaries]
${names.map(([place, values]) => `${place.replace('.', '-')} = { values = ${JSON.stringify(values)} }`).join('\n')}
[parameters]
${names.map(([place]) => `"${place}" = { dictionary = "${place.replace('.', '-')}", probability = 0.7 }`).join('\n')}
[[operations]]
include-operation-id = ${JSON.stringify(Object.keys(LEFT_OUT))}
enabled = false
`;
}

interface Content {
  schema: object;
}

/** The document with its streams described as the fuzzer reads them: a schema of an event rather than, as with OpenAI, of its data. */
export function documentForFuzzer(document: object): object {
  return JSON.parse(JSON.stringify(document), (name, value) =>
    name === 'text/event-stream' ? { ...value, schema: eventOf(value as Content) } : value,
  );
}

function eventOf({ schema }: Content): object {
  const ended = { properties: { data: { const: '[DONE]' } } };
  const data = { type: 'string', contentMediaType: 'application/json', contentSchema: schema };
  return { type: 'object', required: ['data'], if: ended, else: { properties: { data } } };
}
