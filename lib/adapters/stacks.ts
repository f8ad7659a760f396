/** Which matrices of a model adapters change together: those that share an input. */
import type { LlamaConfig } from "../weights/source.js";

/** Matrices that share an input, stacked. */
export interface Stack {
  readonly inputs: number;
  /** Under GGUF's names, top to bottom. */
  readonly targets: readonly (readonly [name: string, rows: number])[];
}

export type BlockStacks = Readonly<Record<"qkv" | "attentionOut" | "gateUp" | "down", Stack>>;

/** Those of a layer. */
export function blockStacks({ dim, heads, kvHeads, headDim, ffn }: LlamaConfig, layer: number): BlockStacks {
  const name = (part: string) => `blk.${layer}.${part}.weight`;
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  const qkv = [
    [name("attn_q"), queries],
    [name("attn_k"), keys],
    [name("attn_v"), keys],
  ] as const;
  const gateUp = [
    [name("ffn_gate"), ffn],
    [name("ffn_up"), ffn],
  ] as const;
  return {
    qkv: { inputs: dim, targets: qkv },
    attentionOut: { inputs: queries, targets: [[name("attn_output"), dim]] },
    gateUp: { inputs: dim, targets: gateUp },
    down: { inputs: ffn, targets: [[name("ffn_down"), dim]] },
  };
}

/** The model's output. */
export const outputStack = ({ dim, vocab }: LlamaConfig): Stack => ({
  inputs: dim,
  targets: [["output.weight", vocab]],
});

/** The embedding, whose tokens are its rows. */
export const embeddingStack = ({ dim, vocab }: LlamaConfig): Stack => ({
  inputs: dim,
  targets: [["token_embd.weight", vocab]],
});

/** The rows of all matrices together. */
export const rowsOf = ({ targets }: Stack): number => targets.reduce((sum, [, rows]) => sum + rows, 0);
