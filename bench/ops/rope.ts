/** RoPE, with the write of keys and values to the layers of a cache. */
import { rope as ropeArrays } from "../../lib/kernels.js";
import { blockTokens } from "../../lib/kv-block.js";
import { type CacheShape, native } from "../../lib/native.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { batchOf } from "../cache.js";
import { shapes } from "../shapes.js";
import { filled, moved, type Op, type Operands, type Problem, programOf, randomTable } from "./op.js";
import { randomFloats } from "./random.js";

export const rope: Op = {
  name: "rope",
  problems: (model, tokens) => tokens.map((count) => problem(model, shapes[model]!, count)),
};

/** Tokens of the cut. */
const cutTokens = 19;

/** Bytes of a token: q and k read and written, v read, and k and v written in f16. */
function ropeBytes({ heads, kvHeads, headDim }: LlamaConfig): number {
  return headDim * (8 * (heads + kvHeads) + 4 * kvHeads + 2 * 2 * kvHeads);
}

function problem(model: string, config: LlamaConfig, tokens: number): Problem {
  const { layers, heads, kvHeads, headDim } = config;
  const width = (heads + 2 * kvHeads) * headDim;
  const shape: CacheShape = { keys: "f16", values: "f16", layers, kvHeads, headDim };
  const options = { heads, rotaryDim: headDim, halves: false, theta: 10_000, scale: 1 };
  const blocks = Array.from({ length: Math.ceil(tokens / blockTokens) }, (_, i) => i);
  return {
    shape: `${model}.heads`,
    tokens,
    format: shape.keys,
    work: moved(ropeBytes(config) * tokens, "q and k read and written, v read, k and v written in f16"),
    operands: async (device): Promise<Operands> => {
      const table = await randomTable(device, width);
      const cache = native.cacheCreate(device.handle, shape, blocks.length);
      return {
        repeated: (runner, _, times) =>
          programOf(
            runner,
            (program) => {
              const qkv = filled(program, table);
              for (let i = 0; i < times; i++) program.rope(qkv, i % layers, options);
            },
            batchOf([{ length: tokens, past: 0, blocks }], (row) => row, []),
            { shape, cache },
          ),
        [Symbol.dispose]: () => {
          for (const handle of [table, cache]) native.free(handle);
        },
      };
    },
    result: async (execution) => {
      const length = Math.min(tokens, cutTokens);
      const count = Math.ceil(length / blockTokens);
      const qkv = randomFloats(length * width);
      const [k, v] = [0, 1].map(() => new Uint16Array(count * kvHeads * headDim * blockTokens)) as [
        Uint16Array,
        Uint16Array,
      ];
      ropeArrays({
        qkv,
        positions: Int32Array.from({ length }, (_, i) => i),
        sequences: [{ length, past: 0, blocks: Array.from({ length: count }, (_, i) => i) }],
        cache: { keys: "f16", values: "f16", k, v, blocks: count, kvHeads, headDim },
        heads,
        ...execution,
      });
      return Float32Array.from([...qkv, ...k, ...v]);
    },
  };
}
