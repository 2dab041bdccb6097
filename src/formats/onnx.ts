// Encodes ONNX models: the protobuf encoding of the parts of onnx.proto that a graph of tensors needs. It validates
// nothing. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

/** TensorProto.DataType. */
export const ONNX_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const;
export type OnnxType = keyof typeof ONNX_TYPES;

export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxType;
  /** A string names a dynamic dimension. */
  readonly shape: readonly (number | string)[];
}

export interface OnnxInitializer {
  readonly name: string;
  readonly type: OnnxType;
  readonly shape: readonly number[];
  /** Little-endian bytes, or their place in another file. */
  readonly data: Uint8Array | ExternalData;
}

interface ExternalData {
  readonly location: string;
  readonly offset: number;
  readonly sizeBytes: number;
  /** The same numbers as ONNX Runtime packs them for its kernels, in the same file. */
  readonly packed?: readonly PackedBytes[];
}

export interface PackedBytes {
  /** ONNX Runtime's key: the operator and a hash of the packed bytes. */
  readonly key: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] }
  | { readonly graph: OnnxGraph };

export interface OnnxNode {
  readonly op: string;
  /** '' is the default ONNX domain. */
  readonly domain: string;
  /** '' stands for an absent optional input. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

export interface OnnxGraph {
  readonly name: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly initializers: readonly OnnxInitializer[];
  readonly nodes: readonly OnnxNode[];
}

export interface OnnxModel {
  readonly graph: OnnxGraph;
  /** Operator set versions by domain. */
  readonly opsets: Readonly<Record<string, number>>;
}

/** A message as a list of byte chunks; nested messages are flattened into it. */
type Message = Uint8Array[];

const WIRE = { varint: 0, bytes: 2, fixed32: 5 } as const;

function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

const tag = (field: number, wire: number) => varint((field << 3) | wire);
const lengthOf = (message: Message) => message.reduce((length, bytes) => length + bytes.length, 0);
const int = (field: number, value: number): Message => [tag(field, WIRE.varint), varint(value)];
const bytes = (field: number, value: Uint8Array): Message => [
  tag(field, WIRE.bytes),
  varint(value.length),
  value,
];
const text = (field: number, value: string): Message => bytes(field, Buffer.from(value, 'utf8'));
const nested = (field: number, message: Message): Message => [
  tag(field, WIRE.bytes),
  varint(lengthOf(message)),
  ...message,
];
const packed = (field: number, values: readonly number[]): Message => nested(field, values.map(varint));

function float(field: number, value: number): Message {
  const buffer = new Uint8Array(4);
  new DataView(buffer.buffer).setFloat32(0, value, true);
  return [tag(field, WIRE.fixed32), buffer];
}

const ATTRIBUTE_TYPES = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;

function attributeBody(attribute: OnnxAttribute): Message {
  if ('int' in attribute) return [...int(3, attribute.int), ...int(20, ATTRIBUTE_TYPES.int)];
  if ('float' in attribute) return [...float(2, attribute.float), ...int(20, ATTRIBUTE_TYPES.float)];
  if ('string' in attribute) return [...text(4, attribute.string), ...int(20, ATTRIBUTE_TYPES.string)];
  if ('ints' in attribute) return [...packed(8, attribute.ints), ...int(20, ATTRIBUTE_TYPES.ints)];
  return [...nested(6, graphMessage(attribute.graph)), ...int(20, ATTRIBUTE_TYPES.graph)];
}

const nodeMessage = (node: OnnxNode): Message => [
  ...node.inputs.flatMap(name => text(1, name)),
  ...node.outputs.flatMap(name => text(2, name)),
  ...text(3, node.outputs.find(name => name !== '') ?? ''),
  ...text(4, node.op),
  ...Object.entries(node.attributes).flatMap(([name, attribute]) =>
    nested(5, [...text(1, name), ...attributeBody(attribute)]),
  ),
  ...text(7, node.domain),
];

const entry = (key: string, value: string) => nested(13, [...text(1, key), ...text(2, value)]);

/** The last number is a checksum that nothing reads (ONNX Runtime 1.30). */
const packedEntry = ({ key, offset, sizeBytes }: PackedBytes): string => `${key}|${offset};${sizeBytes};0`;

function initializerMessage({ name, type, shape, data }: OnnxInitializer): Message {
  const head = [...packed(1, shape), ...int(2, ONNX_TYPES[type]), ...text(8, name)];
  if (data instanceof Uint8Array) return [...head, ...bytes(9, data)];
  return [
    ...head,
    ...entry('location', data.location),
    ...entry('offset', String(data.offset)),
    ...entry('length', String(data.sizeBytes)),
    ...(data.packed ?? []).flatMap((packed, i) => entry(`prepacked_${i}`, packedEntry(packed))),
    ...int(14, 1),
  ];
}

const dimension = (length: number | string): Message =>
  nested(1, typeof length === 'number' ? int(1, length) : text(2, length));

function valueMessage({ name, type, shape }: OnnxValue): Message {
  const tensorType = [...int(1, ONNX_TYPES[type]), ...nested(2, shape.flatMap(dimension))];
  return [...text(1, name), ...nested(2, nested(1, tensorType))];
}

const graphMessage = (graph: OnnxGraph): Message => [
  ...graph.nodes.flatMap(node => nested(1, nodeMessage(node))),
  ...text(2, graph.name),
  ...graph.initializers.flatMap(initializer => nested(5, initializerMessage(initializer))),
  ...graph.inputs.flatMap(value => nested(11, valueMessage(value))),
  ...graph.outputs.flatMap(value => nested(12, valueMessage(value))),
];

/** The file as chunks, in order. A protobuf must stay below 2 GB: larger weights belong in external files. */
export const encodeOnnx = ({ graph, opsets }: OnnxModel): Uint8Array[] => [
  ...int(1, 10), // ir_version
  ...text(2, 'anneal'),
  ...nested(7, graphMessage(graph)),
  ...Object.entries(opsets).flatMap(([domain, version]) =>
    nested(8, [...text(1, domain), ...int(2, version)]),
  ),
];
