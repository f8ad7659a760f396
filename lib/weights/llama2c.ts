/**
 * llama2.c's models (github.com/karpathy/llama2.c, export.py), little-endian. Seven i32 are the dimension, the
 * feed-forward's, the layers, heads, heads of keys and values, tokens and context:
 *
 *     legacy   the seven, the tokens negative where there is an output matrix; f32 tensors from byte 28 on
 *     v1, v2   u32 0x616b3432, i32 version, the seven, u8 whether the embedding is the output matrix too,
 *              v2: i32 weights in a group; tensors from byte 256 on
 *
 *     legacy   embedding, attention norms, wq, wk, wv, wo, feed-forward norms, w1, w2, w3, the last norm,
 *              RoPE's cosines and sines (context x head / 2 each, which cria computes itself), output
 *     v1, v2   attention norms, feed-forward norms, the last norm, embedding, wq, wk, wv, wo, w1, w2, w3, output
 *
 * Each stands for all layers, one after another. Matrices are row-major, in v2 int8 followed by an f32 scale for each
 * group of their elements, which may begin in one row and end in the next. Queries and keys turn in adjacent pairs.
 */
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { CriaFileError } from "../errors.js";
import { readAll } from "../files.js";
import type { TensorHandle } from "../native.js";
import { converting, OpenFiles, type Placing, packing, placeChunks } from "./chunks.js";
import { most, readHeads } from "./llama-limits.js";
import { type LlamaTensor, llamaTensors } from "./llama-tensors.js";
import { readFrom, readStart, unreadable } from "./open.js";
import type { FileTensor, LlamaConfig, TensorInfo, Vocabulary } from "./source.js";
import { fileSource, type ModelFile, naming, type WeightSource } from "./store.js";
import { readTokenizerBin } from "./tokenizer-bin.js";
import { checkSize } from "./vocabulary-size.js";

const magic = 0x616b3432;
const legacyBytes = 28;
const headerBytes = 256;

/** Where the fields of v1 and v2 stand. */
const at = { version: 4, numbers: 8, shared: 36, group: 37 } as const;

/** What is not in the files: the same for every model that llama2.c runs. */
const fixed = { eps: 1e-5, theta: 10_000 } as const;

type Form = "legacy" | "v1" | "v2";

const forms: Readonly<Record<Form, string>> = { legacy: "legacy fp32", v1: "v1 fp32", v2: "v2 int8" };

/** The seven numbers, as export.py names them. */
const numberNames = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"] as const;

type Numbers = Record<(typeof numberNames)[number], number>;

interface Header {
  readonly form: Form;
  readonly config: LlamaConfig;
  /** Whether the embedding is the output matrix too. */
  readonly tied: boolean;
  /** Weights that share a scale, in v2. */
  readonly group: number;
}

/** A tensor of v2: int8 with scales behind them. */
interface Int8Tensor {
  readonly offset: number;
  readonly scales: number;
}

/** Whether a file is one of these: by v1's and v2's first bytes, or by seven numbers that are a LLaMA's. */
export async function isLlama2c(path: string): Promise<boolean> {
  const first = await readStart(path, legacyBytes);
  if (first.length < legacyBytes) return false;
  return first.readUInt32LE() === magic || areLlamas(legacyNumbers(first));
}

/**
 * Reads the index of one of these models. Its vocabulary is that of the `tokenizer.bin`, or of the only `tok*.bin`,
 * that stands beside it.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that is damaged or has no vocabulary beside it, ERR_CRIA_UNSUPPORTED
 *   for a version or a shape that cria does not read
 */
export async function readLlama2c(path: string, vocabulary?: Vocabulary): Promise<ModelFile> {
  const { header, size } = await readFrom(path, undefined, (fd, size) => ({ header: readHeader(fd, path), size }));
  const { config } = header;
  const { tensors, int8 } = placeTensors(path, size, header);
  return {
    path,
    format: `llama2.c ${forms[header.form]}${header.form === "v2" ? ` in groups of ${header.group}` : ""}`,
    name: undefined,
    config,
    ...(vocabulary === undefined ? await readBeside(path, config.vocab) : { vocabulary }),
    tensors,
    mappable: false,
    source: () => (header.form === "v2" ? int8Source(path, tensors, int8, header.group) : fileSource(tensors)),
  };
}

/** The vocabulary beside a model, of whatever size. @throws CriaFileError where there is none, or it is damaged */
export const readLlama2cVocabulary = async (path: string): Promise<Vocabulary> =>
  readTokenizerBin(await tokenizerBeside(path));

async function readBeside(path: string, vocab: number): Promise<Required<Pick<ModelFile, "vocabulary" | "files">>> {
  const tokenizer = await tokenizerBeside(path);
  const vocabulary = await readTokenizerBin(tokenizer);
  checkSize(tokenizer, vocabulary, vocab);
  return { vocabulary, files: [tokenizer] };
}

async function tokenizerBeside(path: string): Promise<string> {
  const folder = dirname(path);
  const names = await readdir(folder).catch((error: unknown) => {
    throw unreadable(folder, undefined, error);
  });
  const candidates = names.filter((name) => /^tok.*\.bin$/.test(name) && name !== basename(path));
  if (candidates.includes("tokenizer.bin")) return join(folder, "tokenizer.bin");
  if (candidates.length === 1) return join(folder, candidates[0]!);
  const found = candidates.length === 0 ? "nothing of these names" : candidates.sort().join(", ");
  throw new CriaFileError(
    path,
    "tokenizer",
    `must be given, or stand beside it as tokenizer.bin or as the only tok*.bin, but there is ${found}`,
  );
}

function legacyNumbers(bytes: Buffer): Numbers {
  const numbers = numbersAt(bytes, 0);
  return { ...numbers, vocab_size: Math.abs(numbers.vocab_size) };
}

function numbersAt(bytes: Buffer, offset: number): Numbers {
  return Object.fromEntries(numberNames.map((name, i) => [name, bytes.readInt32LE(offset + 4 * i)])) as Numbers;
}

/** Whether seven numbers are a LLaMA's, be it one that cria computes. */
function areLlamas(numbers: Numbers): boolean {
  try {
    configOf("", numbers);
    return true;
  } catch (error) {
    if (error instanceof CriaFileError) return error.code === "ERR_CRIA_UNSUPPORTED";
    throw error;
  }
}

function readHeader(fd: number, path: string): Header {
  const bytes = Buffer.alloc(headerBytes);
  const got = readAll(fd, bytes, 0);
  const fail = (subject: string | undefined, problem: string, code?: "ERR_CRIA_UNSUPPORTED") =>
    new CriaFileError(path, subject, problem, code);
  const isLegacy = bytes.readUInt32LE() !== magic;
  if (got < (isLegacy ? legacyBytes : headerBytes)) {
    throw fail(undefined, `must have a header of ${isLegacy ? legacyBytes : headerBytes} bytes, not ${got}`);
  }
  const numbers = isLegacy ? legacyNumbers(bytes) : numbersAt(bytes, at.numbers);
  const config = configOf(path, numbers);
  if (isLegacy) return { form: "legacy", config, tied: numbersAt(bytes, 0).vocab_size > 0, group: 1 };

  const version = bytes.readInt32LE(at.version);
  if (version !== 1 && version !== 2) {
    throw fail(undefined, `must be version 1 or 2 of llama2.c's format, not ${version}`, "ERR_CRIA_UNSUPPORTED");
  }
  const shared = bytes[at.shared]!;
  if (shared > 1) throw fail("shared_classifier", `must be 0 or 1, not ${shared}`);
  const group = version === 1 ? 1 : bytes.readInt32LE(at.group);
  if (group < 1 || group > config.dim || config.dim % group !== 0) {
    throw fail("group_size", `must divide the dimension, ${config.dim}, not be ${group}`);
  }
  return { form: version === 1 ? "v1" : "v2", config, tied: shared === 1, group };
}

/** @throws CriaFileError ERR_CRIA_FILE for numbers that are no LLaMA's, ERR_CRIA_UNSUPPORTED for another's heads */
function configOf(path: string, numbers: Numbers): LlamaConfig {
  const error = (name: string, problem: string, code?: "ERR_CRIA_UNSUPPORTED") =>
    new CriaFileError(path, name, problem, code);
  const integer = (name: string, min: number, max: number) => {
    const value = numbers[name as keyof Numbers];
    if (value >= min && value <= max) return value;
    throw error(name, `must be an integer from ${min} to ${max}, not ${value}`);
  };
  const sizes = {
    layers: integer("n_layers", 1, most.layers),
    ffn: integer("hidden_dim", 1, most.ffn),
    vocab: integer("vocab_size", 1, most.vocab),
    contextLength: integer("seq_len", 1, most.contextLength),
  };
  // After all that no LLaMA is without.
  const shape = readHeads({ integer, error }, { dim: "dim", heads: "n_heads", kvHeads: "n_kv_heads" });
  const rope = { theta: fixed.theta, scale: 1, dim: shape.headDim, pairing: "adjacent" } as const;
  return { ...sizes, ...shape, eps: fixed.eps, rope };
}

/** What stands in a file from its header on: tensors by GGUF's names, or a number of bytes that are skipped. */
function orderOf(form: Form, { layers, headDim, contextLength }: LlamaConfig, tied: boolean): (string | number)[] {
  const all = (part: string) => Array.from({ length: layers }, (_, n) => `blk.${n}.${part}.weight`);
  const attention = ["attn_q", "attn_k", "attn_v", "attn_output"].flatMap(all);
  const feedForward = ["ffn_gate", "ffn_down", "ffn_up"].flatMap(all); // w1, w2, w3
  const [embedding, norm] = ["token_embd.weight", "output_norm.weight"];
  const output = tied ? [] : ["output.weight"];
  if (form !== "legacy") {
    return [...all("attn_norm"), ...all("ffn_norm"), norm, embedding, ...attention, ...feedForward, ...output];
  }
  const angles = contextLength * headDim * Float32Array.BYTES_PER_ELEMENT;
  return [embedding, ...all("attn_norm"), ...attention, ...all("ffn_norm"), ...feedForward, norm, angles, ...output];
}

interface Placed {
  readonly tensors: ReadonlyMap<string, FileTensor>;
  /** Of v2, the matrices' places. */
  readonly int8: ReadonlyMap<string, Int8Tensor>;
}

/** Puts the tensors to their places, and checks that the file ends where the last one does. */
function placeTensors(path: string, size: number, { form, config, tied, group }: Header): Placed {
  const shapes = new Map(llamaTensors(config, tied).map((tensor) => [tensor.name, tensor]));
  const tensors = new Map<string, FileTensor>();
  const int8 = new Map<string, Int8Tensor>();
  let offset = form === "legacy" ? legacyBytes : headerBytes;
  for (const item of orderOf(form, config, tied)) {
    if (typeof item === "number") {
      offset += item;
      continue;
    }
    const { name, kind, rows, cols } = shapes.get(item)!;
    const quantised = form === "v2" && kind === "matrix";
    if (quantised) int8.set(name, { offset, scales: offset + rows * cols });
    const bytes = quantised ? int8Bytes(path, shapes.get(item)!, group) : 4 * rows * cols;
    tensors.set(name, { name, type: "f32", rows, cols, file: path, offset, bytes });
    offset += bytes;
  }
  if (offset === size) return { tensors, int8 };
  throw new CriaFileError(path, undefined, `must have ${offset} bytes, as its header says, not ${size}`);
}

function int8Bytes(path: string, { name, rows, cols }: LlamaTensor, group: number): number {
  const groups = (rows * cols) / group;
  if (Number.isInteger(groups)) return rows * cols + 4 * groups;
  throw new CriaFileError(path, name, `its ${rows * cols} weights must be whole groups of ${group}`);
}

/** Weights in int8, which come as the f32 that they stand for. */
function int8Source(
  path: string,
  tensors: ReadonlyMap<string, FileTensor>,
  int8: ReadonlyMap<string, Int8Tensor>,
  group: number,
): WeightSource & Disposable {
  const place = async (info: TensorInfo, placing: Placing, into: TensorHandle, row: number) => {
    const stored = int8.get(info.name);
    try {
      if (stored === undefined) {
        await placing.file(into, row, info.rows, path, tensors.get(info.name)!.offset);
        return;
      }
      await using files = await OpenFiles.open([path]);
      await placeChunks(info, placing, into, row, async (chunk, from, count) => {
        const begin = from * info.cols;
        await dequantise(files, stored, group, begin, begin + count * info.cols, chunk);
      });
    } catch (error) {
      throw naming(error, path, info.name);
    }
  };
  return {
    tensors,
    pack: (info, into, row) => place(info, packing, into, row),
    convert: (info, into, row) => place(info, converting(info.type), into, row),
    [Symbol.dispose]: () => undefined,
  };
}

/** Fills `chunk` with the weights from `begin` to `end`, as f32. */
async function dequantise(
  files: OpenFiles,
  { offset, scales: scalesAt }: Int8Tensor,
  group: number,
  begin: number,
  end: number,
  chunk: Buffer,
): Promise<void> {
  const quants = new Int8Array(end - begin);
  const quantBytes = new Uint8Array(quants.buffer);
  const firstGroup = Math.floor(begin / group);
  const scales = Buffer.alloc(4 * (Math.ceil(end / group) - firstGroup));
  await files.read(0, quantBytes, offset + begin);
  await files.read(0, scales, scalesAt + 4 * firstGroup);
  const weights = new Float32Array(chunk.buffer, chunk.byteOffset, quants.length);
  for (let i = 0; i < quants.length; ) {
    const index = Math.floor((begin + i) / group);
    const scale = scales.readFloatLE(4 * (index - firstGroup));
    const stop = Math.min(quants.length, (index + 1) * group - begin);
    for (; i < stop; i++) weights[i] = quants[i]! * scale;
  }
}
