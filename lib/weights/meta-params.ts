import type { Rope } from "../rope-scaling.js";
import type { JsonKeys } from "./json-file.js";
import { most, readHeads } from "./llama-limits.js";
import { readMetaRope } from "./rope-keys.js";
import type { LlamaConfig } from "./source.js";

/** What a model's weights and vocabulary say that `params.json` may leave open. */
export interface Sizes {
  /** The rows of w1 over all parts. */
  readonly ffn: number;
  /** The pieces of the tokenizer, which a `vocab_size` of -1 stands for. */
  readonly pieces: number;
}

/**
 * The hyper-parameters of a `params.json` (ModelArgs of Meta's llama/model.py).
 *
 * @throws CriaFileError naming the key at fault
 */
export function readParams(params: JsonKeys, { ffn, pieces }: Sizes): LlamaConfig {
  const shape = readHeads(params, { dim: "dim", heads: "n_heads", kvHeads: "n_kv_heads" });
  checkFfn(params, shape.dim, ffn);
  const rope = readMetaRope(params, shape);
  const vocab = params.integer("vocab_size", -1, most.vocab, -1);
  if (vocab === 0)
    throw params.error("vocab_size", "must be -1, which is the tokenizer's, or a positive integer, not 0");
  return {
    layers: params.integer("n_layers", 1, most.layers),
    ...shape,
    ffn,
    vocab: vocab === -1 ? pieces : vocab,
    contextLength: contextOf(params, rope),
    eps: params.float("norm_eps", "a number above 0 and below 1", (x) => x > 0 && x < 1, 1e-5),
    rope,
  };
}

/**
 * Checks w1's rows: two thirds of 4 · dim, times `ffn_dim_multiplier` where there is one, each rounded down, and then
 * up to a multiple of `multiple_of`.
 */
function checkFfn(params: JsonKeys, dim: number, ffn: number): void {
  const multiple = params.integer("multiple_of", 1, most.ffn, 256);
  const positive = (x: number) => x > 0 && x <= 64;
  const multiplier = params.float("ffn_dim_multiplier", "a number above 0, at most 64", positive, 1);
  const hidden = Math.floor(multiplier * Math.floor((2 * 4 * dim) / 3));
  const expected = Math.ceil(hidden / multiple) * multiple;
  if (ffn === expected) return;
  throw params.error("multiple_of", `must give w1 its ${ffn} rows, with dim and ffn_dim_multiplier, not ${expected}`);
}

/**
 * The context that a model was trained with. Meta's files seldom say it, as `max_seq_len`; but its models of one
 * context have another number in common:
 *
 *    131,072  Llama 3.1 on     use_scaled_rope
 *     16,384  Code Llama       rope_theta 1e6
 *      8,192  Llama 3          rope_theta 5e5
 *      4,096  Llama 2          norm_eps 1e-5
 *      2,048  LLaMA            norm_eps 1e-6, but for 65B, of 1e-5, which has as many heads of keys as of queries
 */
function contextOf(params: JsonKeys, { theta, scaling }: Rope): number {
  const said = params.integer("max_seq_len", 1, most.contextLength, undefined);
  if (said !== undefined) return said;
  if (scaling !== undefined) return 131_072;
  if (theta === 1e6) return 16_384;
  if (theta === 5e5) return 8192;
  const isFirst65B = params.value("dim") === 8192 && params.value("n_kv_heads") === undefined;
  return params.value("norm_eps") === 1e-6 || isFirst65B ? 2048 : 4096;
}
