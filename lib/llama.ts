/**
 * LLaMA (Touvron et al. 2023) and Llama 2 as a program: blocks of attention with rotary positions and of a SwiGLU
 * feed-forward, each on the normalised residual stream and added to it.
 */
import type { CacheTypes } from "./cache-types.js";
import type { Device } from "./device.js";
import { native, type TensorHandle } from "./native.js";
import { type CacheShape, Program, type RopeOptions, type Value } from "./program.js";
import { ropeFrequencies } from "./rope-scaling.js";
import type { LlamaConfig } from "./weights/source.js";
import type { TensorStore, WeightStore } from "./weights/store.js";

/** The weights of a model, on a device; or whatever else a {@link TensorStore} has for each. */
export interface LlamaWeights<Tensor = TensorHandle> {
  readonly embedding: Tensor;
  readonly blocks: readonly Block<Tensor>[];
  readonly outputNorm: Tensor;
  readonly output: Tensor;
  /** Of matrices whose columns are not their inputs in order, the input of each column, -1 for none. */
  readonly columns?: ReadonlyMap<Tensor, Int32Array> | undefined;
}

/** The weights of one block. Matrices with the same input are stacked: one where their types agree, else one each. */
interface Block<Tensor> {
  readonly attentionNorm: Tensor;
  readonly qkv: readonly Tensor[];
  readonly attentionOut: Tensor;
  readonly ffnNorm: Tensor;
  readonly gateUp: readonly Tensor[];
  readonly down: Tensor;
}

/** out += b (a x): two narrow matrices beside a product, of `rank` rows and columns. */
export interface LowRank {
  /** [rank, inputs]; of the embedding [vocabulary, rank], from which a token takes its row. */
  readonly a: TensorHandle;
  /** [outputs, rank] */
  readonly b: TensorHandle;
  readonly rank: number;
}

/** A prefix beside a layer's attention: vectors, as {@link Program.prefixAttention} takes them. */
export interface GatedKeys {
  readonly keys: TensorHandle;
  readonly values: TensorHandle;
  readonly gates: TensorHandle;
}

/** What adapters put beside a block's weights: for matrices that share an input one pair, for all others none. */
export interface BlockAdapters
  extends Readonly<Record<"qkv" | "attentionOut" | "gateUp" | "down", LowRank | undefined>> {
  readonly prefix: GatedKeys | undefined;
}

/** What adapters put beside the weights. */
export interface LlamaAdapters {
  readonly embedding: LowRank | undefined;
  readonly blocks: readonly BlockAdapters[];
  readonly output: LowRank | undefined;
}

/** Loads a model's weights, tensor by tensor, under GGUF's names. Without an output matrix the embedding is it. */
export async function loadLlama<Tensor>(
  { layers }: LlamaConfig,
  store: TensorStore<Tensor>,
): Promise<LlamaWeights<Tensor>> {
  const embedding = await store.matrix("token_embd.weight");
  const blocks: Block<Tensor>[] = [];
  for (let i = 0; i < layers; i++) {
    const name = (part: string) => `blk.${i}.${part}.weight`;
    blocks.push({
      attentionNorm: await store.vector(name("attn_norm")),
      qkv: await store.stacked(name("attn_q"), name("attn_k"), name("attn_v")),
      attentionOut: await store.matrix(name("attn_output")),
      ffnNorm: await store.vector(name("ffn_norm")),
      gateUp: await store.stacked(name("ffn_gate"), name("ffn_up")),
      down: await store.matrix(name("ffn_down")),
    });
  }
  const outputNorm = await store.vector("output_norm.weight");
  const output = store.has("output.weight") ? await store.matrix("output.weight") : embedding;
  return { embedding, blocks, outputNorm, output, columns: store.columns };
}

/** Bytes of the packed weights that one token reads: of an embedding that is not also the output, it reads one row. */
export function weightBytesPerToken(store: WeightStore): number {
  return store.bytes - (store.has("output.weight") ? store.bytesOf("token_embd.weight") : 0);
}

/** The KV cache that the model wants. */
export function llamaCache({ layers, kvHeads, headDim }: LlamaConfig, { keys, values }: CacheTypes): CacheShape {
  return { keys, values, layers, kvHeads, headDim };
}

/** The positions' turns of queries and keys. */
export function llamaRope({ heads, rope }: LlamaConfig): RopeOptions {
  const { dim, pairing, theta, scale, magnitude } = rope;
  const frequencies = ropeFrequencies(rope);
  return {
    heads,
    rotaryDim: dim,
    halves: pairing === "halves",
    theta,
    scale,
    ...(frequencies && { frequencies }),
    ...(magnitude !== undefined && { magnitude }),
  };
}

/**
 * The forward pass's values: the floats of each, for every token of a batch or for every output asked for. Gate and up
 * have one only where there is a layer in which their types differ, so that they are two matrices, or in which an
 * adapter has something to add to them.
 */
export function llamaValues({ dim, heads, kvHeads, headDim, ffn, vocab }: LlamaConfig, splitGates: boolean) {
  const rest = {
    x: dim, // the residual stream
    normed: dim,
    attended: heads * headDim,
    hidden: ffn,
    ...(splitGates ? { gateUp: 2 * ffn } : {}),
  };
  return {
    tokens: { ...rest, qkv: (heads + 2 * kvHeads) * headDim },
    outputs: { ...rest, logits: vocab },
  } as const;
}

/**
 * The forward pass: token ids to logits. Past the last block's keys and values, only wanted tokens go on.
 *
 * @param adapters what is added to the products, as LoRA does (Hu et al. 2021, §4.1), and to the attention, as
 *   LLaMA-Adapter does (Zhang et al. 2023, §3.2)
 */
export function recordLlama(
  device: Device,
  config: LlamaConfig,
  weights: LlamaWeights,
  cache: CacheShape,
  adapters?: LlamaAdapters,
): Program {
  const { heads, eps } = config;
  const rope = llamaRope(config);
  const program = new Program(device, cache);
  const splitGates =
    weights.blocks.some(({ gateUp }) => gateUp.length > 1) ||
    (adapters?.blocks.some(({ gateUp }) => gateUp !== undefined) ?? false);
  const widths = llamaValues(config, splitGates);
  const tokens = valuesOf(program, "tokens", widths.tokens);
  const outputs = valuesOf(program, "outputs", widths.outputs);
  const between = { tokens: valuesByWidth(program, "tokens"), outputs: valuesByWidth(program, "outputs") };

  const ordered = (input: Value, matrix: TensorHandle, rows: "tokens" | "outputs"): Value => {
    const columns = weights.columns?.get(matrix);
    if (columns === undefined) return input;
    const value = between[rows](columns.length);
    program.gather(input, columns, value);
    return value;
  };
  const linear = (input: Value, matrices: readonly TensorHandle[], out: Value, rows: "tokens" | "outputs") => {
    let column = 0;
    for (const matrix of matrices) {
      program.matmul(ordered(input, matrix, rows), matrix, out, column);
      column += native.tensorRows(matrix);
    }
  };
  const beside = (input: Value, pair: LowRank | undefined, out: Value, rows: "tokens" | "outputs") => {
    if (pair === undefined) return;
    const within = between[rows](pair.rank);
    program.matmul(input, pair.a, within);
    program.matmulAdd(within, pair.b, out);
  };

  program.embed(weights.embedding, tokens.x);
  if (adapters?.embedding !== undefined) {
    const within = between.tokens(adapters.embedding.rank);
    program.embed(adapters.embedding.a, within);
    program.matmulAdd(within, adapters.embedding.b, tokens.x);
  }
  for (const [layer, block] of weights.blocks.entries()) {
    const adapted = adapters?.blocks[layer];
    program.rmsNorm(tokens.x, block.attentionNorm, eps, tokens.normed);
    linear(tokens.normed, block.qkv, tokens.qkv, "tokens");
    beside(tokens.normed, adapted?.qkv, tokens.qkv, "tokens");
    program.rope(tokens.qkv, layer, rope);
    program.attention(tokens.qkv, layer, heads, tokens.attended);
    if (adapted?.prefix !== undefined) {
      const { keys, values, gates } = adapted.prefix;
      program.prefixAttention(tokens.qkv, keys, values, gates, tokens.attended);
    }

    const last = layer === weights.blocks.length - 1;
    if (last) {
      program.select(tokens.x, outputs.x);
      program.select(tokens.attended, outputs.attended);
    }
    const rows = last ? "outputs" : "tokens";
    const { x, normed, attended, hidden, gateUp } = last ? outputs : tokens;
    program.matmulAdd(ordered(attended, block.attentionOut, rows), block.attentionOut, x);
    beside(attended, adapted?.attentionOut, x, rows);
    program.rmsNorm(x, block.ffnNorm, eps, normed);
    if (block.gateUp.length === 1 && adapted?.gateUp === undefined) {
      program.matmulSwiGlu(ordered(normed, block.gateUp[0]!, rows), block.gateUp[0]!, hidden);
    } else {
      linear(normed, block.gateUp, gateUp!, rows);
      beside(normed, adapted?.gateUp, gateUp!, rows);
      program.swiGlu(gateUp!, hidden);
    }
    program.matmulAdd(ordered(hidden, block.down, rows), block.down, x);
    beside(hidden, adapted?.down, x, rows);
  }

  program.rmsNorm(outputs.x, weights.outputNorm, eps, outputs.normed);
  program.matmul(ordered(outputs.normed, weights.output, "outputs"), weights.output, outputs.logits);
  beside(outputs.normed, adapters?.output, outputs.logits, "outputs");
  program.finish(outputs.logits);
  return program;
}

/** Values that one op writes and the next reads: one for each width that there is. */
function valuesByWidth(program: Program, rows: "tokens" | "outputs"): (width: number) => Value {
  const values = new Map<number, Value>();
  return (width) => {
    const value = values.get(width) ?? program.value(rows, width);
    values.set(width, value);
    return value;
  };
}

/** A value of a program for each width. */
function valuesOf<Widths extends object>(
  program: Program,
  rows: "tokens" | "outputs",
  widths: Widths,
): { [Name in keyof Widths]: Value } {
  const entries = Object.entries(widths).map(([name, width]) => [name, program.value(rows, width)]);
  return Object.fromEntries(entries);
}
