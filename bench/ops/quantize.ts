/**
 * Activations to int8. A program has no such op of its own, so this one is called from JavaScript, some microseconds a
 * call: at few tokens they are most of its time.
 */
import { quantize as quantizeArrays } from "../../lib/kernels.js";
import { native } from "../../lib/native.js";
import { shapes } from "../shapes.js";
import { moved, type Op, type Operands, type Problem } from "./op.js";
import { randomFloats } from "./random.js";

export const quantize: Op = {
  name: "quantize",
  problems: (model, tokens) =>
    (["dim", "ffn"] as const).flatMap((of) =>
      tokens.map((count) => problem(`${model}.${of}`, shapes[model]![of], count)),
    ),
};

/** Tokens of the cut. */
const cutTokens = 5;

/** Read in float32; written in int8, with a scale and a sum of 4 bytes for each 32. */
const quantizeBytes = (dim: number): number => 4 * dim + dim + (8 * dim) / 32;

function arrays(dim: number, tokens: number) {
  const stride = Math.ceil(dim / 64) * 64;
  return {
    quants: new Int8Array(tokens * stride),
    scales: new Float32Array((tokens * stride) / 32),
    sums: new Int32Array((tokens * stride) / 32),
  };
}

function problem(shape: string, dim: number, tokens: number): Problem {
  return {
    shape,
    tokens,
    work: moved(quantizeBytes(dim) * tokens, "4 bytes an element read; 1 written, and 8 for each 32"),
    operands: async (): Promise<Operands> => {
      const x = randomFloats(dim * tokens);
      const { quants, scales, sums } = arrays(dim, tokens);
      return {
        repeated: ({ handle }, _, times) => ({
          run: async () => {
            for (let i = 0; i < times; i++) native.quantize(handle, dim, x, quants, scales, sums);
          },
          [Symbol.dispose]: () => undefined,
        }),
        [Symbol.dispose]: () => undefined,
      };
    },
    result: async (execution) => {
      const count = Math.min(tokens, cutTokens);
      const made = arrays(dim, count);
      quantizeArrays({ x: randomFloats(dim * count), dim, ...made, ...execution });
      return Float32Array.from([...made.quants, ...made.scales, ...made.sums]);
    },
  };
}
