import type { GgufFile } from "./gguf-writer.js";
import { encode } from "./gguf-writer.js";

/** The seven numbers of llama2.c's header, in its order. */
export type Numbers = [
  dim: number,
  hidden: number,
  layers: number,
  heads: number,
  kvHeads: number,
  vocab: number,
  context: number,
];

const i32s = (...values: number[]) => Buffer.concat(values.map((value) => encode("i32", value)));

/** A model's tensors in the order of one of llama2.c's forms, under GGUF's names. */
function ordered(file: GgufFile, legacy: boolean): [matrices: Buffer[], vectors: Buffer[], all: Buffer[]] {
  const bytes = new Map(file.tensors.map(({ name, data }) => [name, Buffer.from(data!)]));
  const each = (part: string) =>
    [...bytes].filter(([name]) => name.endsWith(`.${part}.weight`)).map(([, data]) => data);
  const attention = ["attn_q", "attn_k", "attn_v", "attn_output"].flatMap(each);
  const feedForward = ["ffn_gate", "ffn_down", "ffn_up"].flatMap(each);
  const [embedding, norm, output] = ["token_embd", "output_norm", "output"].map((name) => bytes.get(`${name}.weight`));
  const tail = output === undefined ? [] : [output];
  const vectors = [...each("attn_norm"), ...each("ffn_norm"), norm!];
  const matrices = [embedding!, ...attention, ...feedForward, ...tail];
  const [norms, ffnNorms] = [each("attn_norm"), each("ffn_norm")];
  const all = legacy ? [embedding!, ...norms, ...attention, ...ffnNorms, ...feedForward, norm!] : [];
  return [matrices, vectors, [...all, ...(legacy ? tail : [])]];
}

/** The angles of the legacy form, which readers make themselves: noise that would show. */
const angles = ([dim, , , heads, , , context]: Numbers) => Buffer.alloc((context * dim * 4) / heads, 0x7f);

/** A legacy file of a model in f32. */
export function encodeLegacy(file: GgufFile, numbers: Numbers): Buffer {
  const tied = !file.tensors.some(({ name }) => name === "output.weight");
  const [, , all] = ordered(file, true);
  const header = numbers.with(5, tied ? numbers[5] : -numbers[5]);
  const weights = tied ? all : all.slice(0, -1);
  return Buffer.concat([i32s(...header), ...weights, angles(numbers), ...(tied ? [] : all.slice(-1))]);
}

function header(version: 1 | 2, numbers: Numbers, tied: boolean, group: number): Buffer {
  const bytes = Buffer.alloc(256);
  Buffer.concat([i32s(0x616b3432, version, ...numbers), Buffer.of(Number(tied)), i32s(group)]).copy(bytes);
  return bytes;
}

/** A file of version 1. */
export function encodeV1(file: GgufFile, numbers: Numbers): Buffer {
  const tied = !file.tensors.some(({ name }) => name === "output.weight");
  const [matrices, vectors] = ordered(file, false);
  return Buffer.concat([header(1, numbers, tied, 0), ...vectors, ...matrices]);
}

/**
 * A file of version 2, whose groups of `group` weights run through the rows of a matrix.
 *
 * @returns the file, and the model with the weights that it stands for
 */
export function encodeV2(file: GgufFile, numbers: Numbers, group: number): { bytes: Buffer; exact: GgufFile } {
  const tied = !file.tensors.some(({ name }) => name === "output.weight");
  const exact = {
    ...file,
    tensors: file.tensors.map((tensor) =>
      tensor.shape.length === 1 ? tensor : { ...tensor, data: dequantised(tensor.data!, group) },
    ),
  };
  const [matrices, vectors] = ordered(file, false);
  const quantised = matrices.flatMap((matrix) => {
    const { quants, scales } = quantise(matrix, group);
    return [Buffer.from(quants.buffer), Buffer.from(scales.buffer)];
  });
  return { bytes: Buffer.concat([header(2, numbers, tied, group), ...vectors, ...quantised]), exact };
}

function floatsOf(data: Uint8Array): Float32Array {
  return new Float32Array(new Uint8Array(data).buffer);
}

function quantise(data: Uint8Array, group: number): { quants: Int8Array; scales: Float32Array } {
  const weights = floatsOf(data);
  const scales = new Float32Array(weights.length / group);
  const quants = new Int8Array(weights.length);
  for (let i = 0; i < scales.length; i++) {
    const [begin, end] = [i * group, (i + 1) * group];
    for (let k = begin; k < end; k++) scales[i] = Math.max(scales[i]!, Math.abs(weights[k]!) / 127);
    for (let k = begin; k < end; k++) quants[k] = Math.round(weights[k]! / scales[i]!);
  }
  return { quants, scales };
}

function dequantised(data: Uint8Array, group: number): Uint8Array {
  const { quants, scales } = quantise(data, group);
  const weights = new Float32Array(quants.length);
  for (let k = 0; k < weights.length; k++) weights[k] = quants[k]! * scales[Math.floor(k / group)]!;
  return new Uint8Array(weights.buffer);
}

/** A tokenizer.bin of pieces with scores. `longest` is what its header says, the truth unless given. */
export function encodeTokenizerBin(
  pieces: readonly (readonly [piece: string, score: number])[],
  longest?: number,
): Buffer {
  const most = longest ?? Math.max(...pieces.map(([piece]) => Buffer.byteLength(piece)));
  return Buffer.concat([
    encode("u32", most),
    ...pieces.flatMap(([piece, score]) => [
      encode("f32", score),
      encode("i32", Buffer.byteLength(piece)),
      Buffer.from(piece),
    ]),
  ]);
}

/** A sound one of `count` pieces: the three of every vocabulary, the bytes, the space, and words. */
export function tokenizerBin(count: number): Buffer {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const words = Array.from({ length: Math.max(0, count - 260) }, (_, i) => ` w${i}`);
  const pieces = ["<unk>", "\n<s>\n", "\n</s>\n", ...bytes, " ", ...words].slice(0, count);
  return encodeTokenizerBin(pieces.map((piece, id) => [piece, id < 259 ? 0 : 258 - id]));
}
