// The parts of the OpenAPI document that are not derived from routes: title, security schemes, tags.
import type { FastifyDynamicSwaggerOptions, SwaggerTransformObject } from '@fastify/swagger';

const description = `Self-hosted fine-tuning with the API of the OpenAI fine-tuning platform.

Any OpenAI client works: set its base URL to this server's address with \`/v1\`, and use an Anneal API key.`;

const tags = [
  { name: 'Files', description: 'Upload training data, download results.' },
  { name: 'Uploads', description: 'Upload large files in parts.' },
  { name: 'Fine-tuning', description: 'Create, follow and control jobs.' },
  { name: 'Graders', description: "Score a model's answers." },
  { name: 'Evals', description: 'Test models and data with graders, and compare runs.' },
  { name: 'Models', description: 'Base models and fine-tuned models.' },
  { name: 'Chat', description: 'Chat with a model.' },
  { name: 'Responses', description: 'The Responses API, with stored conversations.' },
  { name: 'Completions', description: 'Continue a text.' },
  { name: 'Classifications', description: "Classify texts, or predict a number (not in OpenAI's API)." },
  { name: 'Embeddings', description: 'Embed texts as vectors.' },
  { name: 'Moderations', description: 'Detect harmful texts with your own classifier.' },
  { name: 'Batches', description: 'Process many requests from a file.' },
  { name: 'Webhooks', description: 'Endpoints that events are sent to.' },
  { name: 'Administration', description: 'Projects, keys, usage and limits; needs an admin key.' },
  { name: 'Health', description: 'Whether the service is up; no key is needed.' },
];

/** Tags and security of the administration routes. */
export const administration = { tags: ['Administration'], security: [{ AdminApiKey: [] }] };

export function openapi(version: string) {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Anneal',
      version,
      description,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/', description: 'This server' }],
    tags,
    security: [{ ApiKey: [] }],
    components: {
      securitySchemes: {
        ApiKey: {
          type: 'http' as const,
          scheme: 'bearer',
          description: 'An API key, as `Authorization: Bearer sk-...`.',
        },
        AdminApiKey: {
          type: 'http' as const,
          scheme: 'bearer',
          description: 'An admin key, as `Authorization: Bearer sk-admin-...`.',
        },
      },
    },
  };
}

/** Keeps the schemas' names in the document. */
export const refResolver: FastifyDynamicSwaggerOptions['refResolver'] = {
  buildLocalReference: (json, _baseUri, _fragment, index) =>
    typeof json.$id === 'string' ? json.$id : `schema-${index}`,
};

interface Parameter {
  readonly in?: string;
  readonly schema?: { readonly type?: string; readonly anyOf?: readonly { readonly type?: string }[] };
}

/** Sets the deepObject style for maps in queries (`metadata[key]=value`); the plugin has only one style per route. */
export const styleMaps: SwaggerTransformObject = document => {
  if (!('openapiObject' in document)) return document.swaggerObject;
  for (const path of Object.values(document.openapiObject.paths ?? {}))
    for (const operation of Object.values(path ?? {}) as { parameters?: Parameter[] }[])
      for (const parameter of operation.parameters ?? [])
        if (isMap(parameter)) Object.assign(parameter, { style: 'deepObject', explode: true });
  return document.openapiObject;
};

const isMap = ({ in: place, schema = {} }: Parameter): boolean =>
  place === 'query' && [schema, ...(schema.anyOf ?? [])].some(({ type }) => type === 'object');
