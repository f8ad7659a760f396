import type { FloatType, QuantisedType, WeightType } from "../../bindings.js";
import type { Rope } from "../rope-scaling.js";

export type { FloatType, QuantisedType, WeightType };

/** GGML's id of a type, the weights that share a scale, and the bytes that these take in a file (GGML's blocks). */
export const weightFormats: Readonly<Record<WeightType, { id: number; block: number; blockBytes: number }>> = {
  f32: { id: 0, block: 1, blockBytes: 4 },
  f16: { id: 1, block: 1, blockBytes: 2 },
  bf16: { id: 30, block: 1, blockBytes: 2 },
  q8_0: { id: 8, block: 32, blockBytes: 34 },
  q4_0: { id: 2, block: 32, blockBytes: 18 },
  q4_1: { id: 3, block: 32, blockBytes: 20 },
  q5_0: { id: 6, block: 32, blockBytes: 22 },
  q5_1: { id: 7, block: 32, blockBytes: 24 },
  q2_K: { id: 10, block: 256, blockBytes: 84 },
  q3_K: { id: 11, block: 256, blockBytes: 110 },
  q4_K: { id: 12, block: 256, blockBytes: 144 },
  q5_K: { id: 13, block: 256, blockBytes: 176 },
  q6_K: { id: 14, block: 256, blockBytes: 210 },
  iq4_nl: { id: 20, block: 32, blockBytes: 18 },
  q4_z: { id: 1000, block: 32, blockBytes: 20 }, // not GGML's
};

/** Whether each weight stands for itself, without a scale that it shares with others. */
export const isFloatType = (type: WeightType): type is FloatType => weightFormats[type].block === 1;

/** Bytes of `rows` rows of `cols` weights in a file. */
export function weightBytes(type: WeightType, rows: number, cols: number): number {
  const { block, blockBytes } = weightFormats[type];
  return rows * (cols / block) * blockBytes;
}

/** A named tensor of a model: a matrix of `rows` outputs by `cols` inputs, or a vector (`rows` is 1). */
export interface TensorInfo {
  readonly name: string;
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  /**
   * Of each column the input that it is multiplied by, -1 for none, where these are not the inputs in their order.
   * Arrays that are equal are one.
   */
  readonly columns?: Int32Array;
}

/** A tensor whose bytes stand in a file. The range was checked against the file's length. */
export interface FileTensor extends TensorInfo {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** What a forward pass is built from: a LLaMA's shape (Touvron et al. 2023, table 2; Llama 2, table 1). */
export interface LlamaConfig {
  readonly layers: number;
  readonly dim: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  /** The context that the model was trained with. */
  readonly contextLength: number;
  /** RMSNorm's epsilon. */
  readonly eps: number;
  readonly rope: Rope;
}

/** The types of a piece, in the order of sentencepiece's ModelProto.SentencePiece.Type, as GGUF has them. */
export const pieceTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** How a byte-level vocabulary cuts a text into words, which merge each by itself, under llama.cpp's names. */
export type WordPattern = "gpt-2" | "llama-bpe" | "smollm";

/**
 * A BPE vocabulary as GGUF holds it: SentencePiece's, in which a space is U+2581 and what is no piece becomes bytes,
 * or, where it has a `wordPattern`, a byte-level one as GPT-2's and Llama 3's, whose pieces are written in an alphabet
 * of bytes.
 */
export interface Vocabulary {
  readonly pieces: readonly string[];
  /**
   * What merges first, where there are no `merges`: the neighbours that together are the piece of the highest score.
   */
  readonly scores: readonly number[];
  /** What merges first: pairs of neighbours as "left right", the first before the others. */
  readonly merges?: readonly string[] | undefined;
  /** For each piece its type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  readonly types: readonly number[];
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  /** Every token that ends a generated text, where EOS is not the only one. */
  readonly ends?: readonly number[] | undefined;
  readonly unknown: number | undefined;
  /** Whether neighbours that are all unknown become one token. */
  readonly fuseUnknown?: boolean | undefined;
  /** Whether a text begins with BOS. */
  readonly addBos: boolean;
  /** Whether a space is put before a text; "unless-there": before one that does not begin with a space. */
  readonly addSpacePrefix: boolean | "unless-there";
  /** Whether no piece reaches over a space, whatever could merge. */
  readonly splitSpaces?: boolean | undefined;
  readonly wordPattern?: WordPattern | undefined;
  /** Whether a word that is a piece is taken as it, whatever merges; only where there is a `wordPattern`. */
  readonly wholeWords?: boolean | undefined;
}

/** A model's index: all that is read of a file before its weights are. */
export interface ModelIndex {
  readonly path: string;
  /** What was recognised, for people: "GGUF v3", or "packed v1, layout 3". */
  readonly format: string;
  readonly name: string | undefined;
  readonly config: LlamaConfig;
  readonly vocabulary: Vocabulary;
  /**
   * The Jinja template of the model's chats, where its files have one: nothing is known of it but that it is a text.
   */
  readonly chatTemplate?: string | undefined;
  /** Every tensor of the forward pass, under GGUF's names, in the files' order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}
