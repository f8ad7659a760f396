import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import { type WeightType, weightBytes } from "../../lib/weights/source.js";

/** Builds GGUF files for tests: sound ones, and by the options so marked, damaged ones. */
export interface GgufFile {
  /** 3 unless given. */
  version?: number;
  /** Of the data section and of each tensor in it, 32 unless given. It is `metadata` that writes general.alignment. */
  alignment?: number;
  metadata: Record<string, Value>;
  tensors: TensorSpec[];
  /** Damage: the first four bytes. */
  magic?: string;
  /** Damage: the counts of the header, whatever follows. */
  tensorCount?: bigint;
  keyCount?: bigint;
  /** Damage: keys written a second time. */
  repeat?: string[];
}

export interface TensorSpec {
  name: string;
  /** Fastest first: a matrix is [cols, rows]. */
  shape: (number | bigint)[];
  /** A type that cria reads, or any id. */
  type: WeightType | number;
  /** The data; zeros of the right length unless given. Must be given for a type that is an id. */
  data?: Uint8Array;
  /** Damage: the offset in the header, which the data's place does not follow. */
  offset?: bigint;
}

/** Ids of GGUF's value types. */
export const valueTypes = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** Ids of the weight types that cria reads. */
export const weightTypes: Record<WeightType, number> = { f32: 0, f16: 1, q4_0: 2, q8_0: 8, bf16: 30 };

/** A key's value: its type's id and its bytes. */
export interface Value {
  type: number;
  bytes: Uint8Array;
}

type ScalarType = Exclude<keyof typeof valueTypes, "array">;

const encoders: Record<ScalarType, (x: never) => Buffer> = {
  u8: (x: number) => Buffer.of(x),
  i8: (x: number) => Buffer.from(Int8Array.of(x).buffer),
  u16: (x: number) => Buffer.from(Uint16Array.of(x).buffer),
  i16: (x: number) => Buffer.from(Int16Array.of(x).buffer),
  u32: (x: number) => Buffer.from(Uint32Array.of(x).buffer),
  i32: (x: number) => Buffer.from(Int32Array.of(x).buffer),
  f32: (x: number) => Buffer.from(Float32Array.of(x).buffer),
  f64: (x: number) => Buffer.from(Float64Array.of(x).buffer),
  u64: (x: number | bigint) => Buffer.from(BigUint64Array.of(BigInt(x)).buffer),
  i64: (x: number | bigint) => Buffer.from(BigInt64Array.of(BigInt(x)).buffer),
  bool: (x: boolean | number) => Buffer.of(Number(x)),
  string: (x: string) => Buffer.concat([encode("u64", Buffer.byteLength(x)), Buffer.from(x)]),
};

const encode = (type: ScalarType, x: unknown): Buffer => encoders[type](x as never);

const scalar =
  <T>(type: ScalarType) =>
  (x: T): Value => ({ type: valueTypes[type], bytes: encode(type, x) });

export const u8 = scalar<number>("u8");
export const u16 = scalar<number>("u16");
export const u32 = scalar<number>("u32");
export const i32 = scalar<number>("i32");
export const u64 = scalar<number | bigint>("u64");
export const f32 = scalar<number>("f32");
export const f64 = scalar<number>("f64");
export const bool = scalar<boolean | number>("bool");
export const string = scalar<string>("string");

/** An array of `element`; `count` is what the file says of its length, the truth unless given. */
export function array(element: ScalarType, values: readonly unknown[], count: number | bigint = values.length): Value {
  const bytes = [encode("u32", valueTypes[element]), encode("u64", count), ...values.map((x) => encode(element, x))];
  return { type: valueTypes.array, bytes: Buffer.concat(bytes) };
}

/** A value of bytes as they are, for types that do not exist and values that end early. */
export const raw = (type: number, bytes: Uint8Array): Value => ({ type, bytes });

/** The file's bytes. */
export function encodeGguf(file: GgufFile): Buffer {
  const { version = 3, alignment = 32, metadata, tensors, magic = "GGUF", repeat = [] } = file;
  const keys = [...Object.entries(metadata), ...repeat.map((key) => [key, metadata[key]!] as const)];
  const data = placeData(tensors, alignment);
  const header = Buffer.concat([
    Buffer.from(magic, "latin1"),
    encode("u32", version),
    encode("u64", file.tensorCount ?? tensors.length),
    encode("u64", file.keyCount ?? keys.length),
    ...keys.flatMap(([key, { type, bytes }]) => [encode("string", key), encode("u32", type), bytes]),
    ...tensors.map((tensor, i) => encodeTensorHeader(tensor, data.offsets[i]!)),
  ]);
  return Buffer.concat([header, Buffer.alloc(padding(header.length, alignment)), data.bytes]);
}

function encodeTensorHeader({ name, shape, type, offset }: TensorSpec, place: number): Buffer {
  return Buffer.concat([
    encode("string", name),
    encode("u32", shape.length),
    ...shape.map((n) => encode("u64", n)),
    encode("u32", typeof type === "number" ? type : weightTypes[type]),
    encode("u64", offset ?? place),
  ]);
}

/** The data section, and where each tensor stands in it. */
function placeData(tensors: readonly TensorSpec[], alignment: number): { bytes: Buffer; offsets: number[] } {
  const parts: Uint8Array[] = [];
  const offsets: number[] = [];
  let length = 0;
  for (const tensor of tensors) {
    const bytes = tensor.data ?? zeros(tensor);
    offsets.push(length);
    parts.push(bytes, Buffer.alloc(padding(bytes.length, alignment)));
    length += bytes.length + padding(bytes.length, alignment);
  }
  return { bytes: Buffer.concat(parts), offsets };
}

function zeros({ name, shape, type }: TensorSpec): Uint8Array {
  if (typeof type === "number") throw new Error(`${name}: its data must be given`);
  const [cols, ...rest] = shape.map(Number);
  return new Uint8Array(
    weightBytes(
      type,
      rest.reduce((product, n) => product * n, 1),
      cols!,
    ),
  );
}

const padding = (length: number, alignment: number): number => (alignment - (length % alignment)) % alignment;

/** A LLaMA's shape, as the builder below takes it. */
export interface LlamaShape {
  layers?: number;
  dim?: number;
  heads?: number;
  kvHeads?: number;
  headDim?: number;
  ffn?: number;
  vocab?: number;
  contextLength?: number;
  /** Of the matrices; vectors are f32. */
  type?: WeightType;
  /** Without output.weight. */
  tied?: boolean;
  /** A tensor's bytes in the file; zeros unless given. */
  data?: (name: string, type: WeightType, rows: number, cols: number) => Uint8Array;
}

/** A sound LLaMA, small unless told otherwise, to write as it is or to spoil first. */
export function llamaFile(shape: LlamaShape = {}): GgufFile {
  const { layers = 2, dim = 64, heads = 4, kvHeads = 2, headDim = dim / heads, ffn = 96, vocab = 300 } = shape;
  const { contextLength = 128, type = "q8_0", tied = false, data } = shape;
  const tensors = llamaTensors({ layers, dim, heads, kvHeads, headDim, ffn, vocab }, tied);
  return {
    metadata: {
      "general.architecture": string("llama"),
      "general.name": string("a test"),
      "llama.context_length": u32(contextLength),
      "llama.embedding_length": u32(dim),
      "llama.block_count": u32(layers),
      "llama.feed_forward_length": u32(ffn),
      "llama.attention.head_count": u32(heads),
      "llama.attention.head_count_kv": u32(kvHeads),
      "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
      "llama.rope.dimension_count": u32(headDim),
      ...(headDim === dim / heads ? {} : { "llama.attention.key_length": u32(headDim) }),
      ...vocabularyKeys(vocab),
    },
    tensors: tensors.map(({ name, kind, rows, cols }): TensorSpec => {
      const weightType = kind === "vector" ? "f32" : type;
      return {
        name,
        type: weightType,
        shape: kind === "vector" ? [cols] : [cols, rows],
        ...(data && { data: data(name, weightType, rows, cols) }),
      };
    }),
  };
}

/** A SentencePiece vocabulary: unknown, BOS, EOS, the 256 bytes, and then words that no two texts share. */
export function vocabularyKeys(count: number): Record<string, Value> {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const words = Array.from({ length: Math.max(0, count - 259) }, (_, i) => `▁w${i}`);
  const pieces = ["<unk>", "<s>", "</s>", ...bytes, ...words].slice(0, count);
  const types = pieces.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1));
  return {
    "tokenizer.ggml.model": string("llama"),
    "tokenizer.ggml.tokens": array("string", pieces),
    "tokenizer.ggml.scores": array(
      "f32",
      pieces.map((_, id) => (id < 259 ? 0 : 258 - id)),
    ),
    "tokenizer.ggml.token_type": array("i32", types),
    "tokenizer.ggml.bos_token_id": u32(1),
    "tokenizer.ggml.eos_token_id": u32(2),
    "tokenizer.ggml.unknown_token_id": u32(0),
  };
}

/** The files of `file` split into parts of the tensors at `cuts`, under the names that llama.cpp's gguf-split gives. */
export function splitGguf(file: GgufFile, prefix: string, ...cuts: number[]): Map<string, GgufFile> {
  const bounds = [0, ...cuts, file.tensors.length];
  const count = cuts.length + 1;
  const parts = Array.from({ length: count }, (_, i): [string, GgufFile] => [
    `${prefix}-${String(i + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.gguf`,
    {
      ...file,
      metadata: {
        ...(i === 0 ? file.metadata : {}),
        "split.no": u16(i),
        "split.count": u16(count),
        "split.tensors.count": i32(file.tensors.length),
      },
      tensors: file.tensors.slice(bounds[i], bounds[i + 1]),
    },
  ]);
  return new Map(parts);
}

export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
  /** Writes a file and returns its path. */
  write(name: string, content: GgufFile | Uint8Array): Promise<string>;
}

/** A folder for a test's files that goes away with `await using`. */
export async function temporaryFolder(): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), "cria-"));
  return {
    path,
    async write(name, content) {
      const file = join(path, name);
      await writeFile(file, content instanceof Uint8Array ? content : encodeGguf(content));
      return file;
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
