import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { vocabularyKeys } from "../../bench/made-up-vocabulary.js";
import {
  encodeKey,
  encodeStart,
  encodeTensorHeader,
  f32,
  i32,
  padding,
  scalar,
  string,
  u32,
  type Value,
} from "../../lib/weights/gguf-values.js";
import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import { type WeightType, weightBytes } from "../../lib/weights/source.js";

export * from "../../bench/made-up-vocabulary.js";
export * from "../../lib/weights/gguf-values.js";

export const u8 = scalar<number>("u8");
export const u16 = scalar<number>("u16");
export const u64 = scalar<number | bigint>("u64");
export const f64 = scalar<number>("f64");

/** A value of bytes as they are, for types that do not exist and values that end early. */
export const raw = (type: number, bytes: Uint8Array): Value => ({ type, bytes });

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

/** The file's bytes. */
export function encodeGguf(file: GgufFile): Buffer {
  const { version = 3, alignment = 32, metadata, tensors, magic = "GGUF", repeat = [] } = file;
  const keys = [...Object.entries(metadata), ...repeat.map((key) => [key, metadata[key]!] as const)];
  const data = placeData(tensors, alignment);
  const header = Buffer.concat([
    encodeStart(file.tensorCount ?? tensors.length, file.keyCount ?? keys.length, { magic, version }),
    ...keys.map(([key, value]) => encodeKey(key, value)),
    ...tensors.map(({ name, shape, type, offset }, i) =>
      encodeTensorHeader(name, shape, type, offset ?? data.offsets[i]!),
    ),
  ]);
  return Buffer.concat([header, Buffer.alloc(padding(header.length, alignment)), data.bytes]);
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
