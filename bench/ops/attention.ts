/**
 * Attention over the heads of a model, over layers of a cache enough that no cache of the processor holds them: of a
 * prompt, and of a token after a context.
 */
import { attention } from "../../lib/kernels.js";
import { blockTokens } from "../../lib/kv-block.js";
import { type CacheShape, native } from "../../lib/native.js";
import { batchOf, fillCache } from "../cache.js";
import { Cleanup } from "../cleanup.js";
import { rotationBytes } from "../machine.js";
import { shapes } from "../shapes.js";
import { filled, type Op, type Operands, type Problem, programOf, randomTable } from "./op.js";
import { randomFloats, randomHalves } from "./random.js";

/** Before a token that is decoded. */
const contexts = [512, 2048, 8192];

export const attentionOp: Op = {
  name: "attention",
  problems: (model, tokens) => [
    // A prompt of one token sees itself alone: there is nothing to attend to.
    ...tokens.filter((count) => count > 1).map((count) => problem(model, "heads", 0, count)),
    ...(tokens.includes(1) ? contexts.map((context) => problem(model, `context${context}`, context, 1)) : []),
  ],
};

/** Key and query pairs of `tokens` tokens after `context`: a token sees itself and all before it. */
export const pairs = (context: number, tokens: number): number => tokens * context + (tokens * (tokens + 1)) / 2;

/** Layers at most, for short contexts: of few tokens, whose blocks have room for 16, they take a quarter of a gigabyte. */
const mostLayers = 1024;

function problem(model: string, name: string, context: number, tokens: number): Problem {
  const { heads, kvHeads, headDim } = shapes[model]!;
  const layerBytes = 2 * 2 * kvHeads * headDim * (context + tokens); // K and V in f16
  const shape: CacheShape = {
    keys: "f16",
    values: "f16",
    kvHeads,
    headDim,
    layers: Math.max(1, Math.min(mostLayers, Math.ceil(rotationBytes() / layerBytes))),
  };
  const blocks = Array.from({ length: Math.ceil((context + tokens) / blockTokens) }, (_, i) => i);
  const batch = batchOf([{ length: tokens, past: context, blocks }], (row) => row, []);
  return {
    shape: `${model}.${name}`,
    tokens,
    format: shape.keys,
    context,
    work: {
      bytes: layerBytes,
      operations: 4 * heads * headDim * pairs(context, tokens),
      model:
        "4 · heads · headDim operations a query and key; keys and values read once, in f16; those of few tokens from caches",
      unit: "GFLOP/s",
      memory: "readGBs",
      by: "fma",
    },
    operands: async (device): Promise<Operands> => {
      using made = new Cleanup();
      const cache = made.handle(native.cacheCreate(device.handle, shape, blocks.length));
      await fillCache(device, cache, shape, blocks);
      const table = made.handle(await randomTable(device, (heads + 2 * kvHeads) * headDim));
      const dispose = made.move();
      return {
        repeated: (runner, _, times) =>
          programOf(
            runner,
            (program) => {
              const qkv = filled(program, table);
              const out = program.value("tokens", heads * headDim);
              for (let i = 0; i < times; i++) program.attention(qkv, i % shape.layers, heads, out);
            },
            batch,
            { shape, cache },
          ),
        [Symbol.dispose]: dispose,
      };
    },
    result: async (execution) => {
      const [length, past] = [Math.min(tokens, cut.tokens), Math.min(context, cut.context)];
      const some = { heads: cut.kvHeads * (heads / kvHeads), kvHeads: cut.kvHeads };
      const count = Math.ceil((past + length) / blockTokens);
      const values = count * some.kvHeads * headDim * blockTokens;
      const out = new Float32Array(length * some.heads * headDim);
      attention({
        q: randomFloats(out.length),
        sequences: [{ length, past, blocks: Array.from({ length: count }, (_, i) => count - 1 - i) }],
        cache: {
          keys: "f16",
          values: "f16",
          k: randomHalves(values, 2),
          v: randomHalves(values, 3),
          blocks: count,
          kvHeads: some.kvHeads,
          headDim,
        },
        heads: some.heads,
        out,
        ...execution,
      });
      return out;
    },
  };
}

/** Of the cut: past every tile of queries, and keys enough to be split. */
const cut = { tokens: 37, context: 1100, kvHeads: 2 };
