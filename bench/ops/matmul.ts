/**
 * Products with the matrices of a model: qkv, out, gate_up, down, and output.
 *
 * The weights are read once from memory, by matrices enough that no cache holds them; x and the result stay in caches,
 * and are not counted. A quantised product's x is filled and quantised once a run, in its time.
 */
import type { Device } from "../../lib/device.js";
import { matmul, type WeightType } from "../../lib/kernels.js";
import { native, type TensorHandle } from "../../lib/native.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { multiplierOf } from "../limits.js";
import { rotationBytes } from "../machine.js";
import { shapes } from "../shapes.js";
import {
  filled,
  type Op,
  type Operands,
  type Problem,
  programOf,
  randomMatrix,
  randomTable,
  uncachedBatch,
} from "./op.js";
import { randomFloats, randomWeights } from "./random.js";

/** Rows and columns of a model's matrices. Those with the same input are one. */
export function matrices({ dim, heads, kvHeads, headDim, ffn, vocab }: LlamaConfig): Record<string, [number, number]> {
  return {
    qkv: [(heads + 2 * kvHeads) * headDim, dim],
    out: [dim, heads * headDim],
    gate_up: [2 * ffn, dim],
    down: [dim, ffn],
    output: [vocab, dim],
  };
}

/** The op of that name, for weights of each of the types. */
export function matmulOp(name: string, types: readonly WeightType[]): Op {
  return {
    name,
    problems: (model, tokens) =>
      types.flatMap((type) =>
        Object.entries(matrices(shapes[model]!)).flatMap(([matrix, [rows, cols]]) =>
          problems(`${model}.${matrix}`, type, rows, cols, tokens),
        ),
      ),
  };
}

/** Rows, columns and tokens of the cut: past a panel of 16 rows, a superblock of 64 columns, and every tile of tokens. */
const cut = { rows: 80, cols: 544, tokens: 19 };

function problems(shape: string, type: WeightType, rows: number, cols: number, tokens: readonly number[]): Problem[] {
  const bytes = packedBytes(type, rows, cols);
  const operands = (device: Device) => operandsOf(device, type, rows, cols, Math.ceil(rotationBytes() / bytes));
  return tokens.map((count) => ({
    shape,
    tokens: count,
    format: type,
    work: {
      bytes,
      operations: 2 * rows * cols * count,
      model: "2 · rows · cols · tokens operations; the weights read once",
      unit: multiplierOf(type) === "int8" ? "GOP/s" : "GFLOP/s",
      memory: "readGBs",
      by: multiplierOf(type),
    },
    operands,
    result: async (execution) => {
      const [r, c, t] = [Math.min(rows, cut.rows), Math.min(cols, cut.cols), Math.min(count, cut.tokens)];
      using weight = await randomWeights(type, r, c);
      const out = new Float32Array(t * r);
      matmul({ weight, x: randomFloats(t * c), out, ...execution });
      return out;
    },
  }));
}

/** `count` matrices, which take turns. */
async function operandsOf(
  device: Device,
  type: WeightType,
  rows: number,
  cols: number,
  count: number,
): Promise<Operands> {
  const table = await randomTable(device, cols);
  const weights: TensorHandle[] = [];
  for (let i = 0; i < count; i++) weights.push(await randomMatrix(device, type, rows, cols, i));
  return {
    repeated: (runner, tokens, times) =>
      programOf(
        runner,
        (program) => {
          const x = filled(program, table);
          const out = program.value("tokens", rows);
          for (let i = 0; i < times; i++) program.matmul(x, weights[i % count]!, out);
        },
        uncachedBatch(tokens),
      ),
    [Symbol.dispose]: () => {
      for (const tensor of [table, ...weights]) native.free(tensor);
    },
  };
}

/** As the kernels hold them: rows in panels of 16, quantised columns in steps of 64, a scale for each 32 of them. */
export function packedBytes(type: WeightType, rows: number, cols: number): number {
  const wide = Math.ceil(rows / 16) * 16;
  const long = Math.ceil(cols / 64) * 64;
  return {
    f32: 4 * wide * cols,
    f16: 2 * wide * cols,
    bf16: 2 * wide * cols,
    q8_0: wide * long * (34 / 32),
    q4_0: wide * long * (18 / 32),
  }[type];
}
