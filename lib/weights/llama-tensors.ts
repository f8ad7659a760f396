import type { LlamaConfig, TensorInfo, WeightType } from "./source.js";

/** What a LLaMA's tensors depend on. */
export type LlamaDims = Pick<LlamaConfig, "layers" | "dim" | "heads" | "kvHeads" | "headDim" | "ffn" | "vocab">;

/**
 * A tensor of the forward pass under GGUF's name: a matrix of `rows` outputs by `cols` inputs, or a vector of `cols`.
 */
export interface LlamaTensor {
  readonly name: string;
  readonly kind: "matrix" | "vector";
  readonly rows: number;
  readonly cols: number;
}

/**
 * Every tensor of the forward pass, in its order; `tied` without an output matrix, for which the embedding stands in.
 */
export function llamaTensors(
  { layers, dim, heads, kvHeads, headDim, ffn, vocab }: LlamaDims,
  tied: boolean,
): LlamaTensor[] {
  const vector = (name: string): LlamaTensor => ({ name, kind: "vector", rows: 1, cols: dim });
  const matrix = (name: string, rows: number, cols: number): LlamaTensor => ({ name, kind: "matrix", rows, cols });
  const layer = (n: number) => [
    vector(`blk.${n}.attn_norm.weight`),
    matrix(`blk.${n}.attn_q.weight`, heads * headDim, dim),
    matrix(`blk.${n}.attn_k.weight`, kvHeads * headDim, dim),
    matrix(`blk.${n}.attn_v.weight`, kvHeads * headDim, dim),
    matrix(`blk.${n}.attn_output.weight`, dim, heads * headDim),
    vector(`blk.${n}.ffn_norm.weight`),
    matrix(`blk.${n}.ffn_gate.weight`, ffn, dim),
    matrix(`blk.${n}.ffn_up.weight`, ffn, dim),
    matrix(`blk.${n}.ffn_down.weight`, dim, ffn),
  ];
  return [
    matrix("token_embd.weight", vocab, dim),
    ...Array.from({ length: layers }, (_, n) => layer(n)).flat(),
    vector("output_norm.weight"),
    ...(tied ? [] : [matrix("output.weight", vocab, dim)]),
  ];
}

/** The same with types, by name, for weights that are made and not read: matrices as `typeOf` says, vectors in f32. */
export function typedLlamaTensors(
  dims: LlamaDims,
  tied: boolean,
  typeOf: (name: string) => WeightType,
): Map<string, TensorInfo> {
  return new Map(
    llamaTensors(dims, tied).map(({ name, kind, rows, cols }) => {
      const type = kind === "vector" ? "f32" : typeOf(name);
      return [name, { name, type, rows, cols }];
    }),
  );
}
