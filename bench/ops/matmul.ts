/**
 * Products with the matrices of a model, as its forward pass has them: qkv and output by themselves, out and down with
 * the sum that follows, gate_up with SwiGLU.
 *
 * The weights are read once from memory, by matrices enough that no cache holds them; x and the result stay in caches,
 * and are not counted. A quantised product's x is filled and quantised once a run, in its time.
 */
import { Device } from "../../lib/device.js";
import type { WeightType } from "../../lib/kernels.js";
import { native, type TensorHandle } from "../../lib/native.js";
import type { Program, Value } from "../../lib/program.js";
import { type LlamaConfig, weightFormats } from "../../lib/weights/source.js";
import { Cleanup } from "../cleanup.js";
import { multiplierOf } from "../limits.js";
import { rotationBytes } from "../machine.js";
import { shapes } from "../shapes.js";
import { filled, type Op, type Problem, programOf, randomMatrix, randomTable, resultOf, uncachedBatch } from "./op.js";

/** What a forward pass does with a product. */
type Fused = "matmul" | "matmulAdd" | "matmulSwiGlu";

interface Matrix {
  rows: number;
  cols: number;
  as: Fused;
}

/** A model's matrices. Those with the same input are one. */
export function matrices({ dim, heads, kvHeads, headDim, ffn, vocab }: LlamaConfig): Record<string, Matrix> {
  return {
    qkv: { rows: (heads + 2 * kvHeads) * headDim, cols: dim, as: "matmul" },
    out: { rows: dim, cols: heads * headDim, as: "matmulAdd" },
    gate_up: { rows: 2 * ffn, cols: dim, as: "matmulSwiGlu" },
    down: { rows: dim, cols: ffn, as: "matmulAdd" },
    output: { rows: vocab, cols: dim, as: "matmul" },
  };
}

/** The op of that name, for weights of each of the types, with the matrices whose rows are whole blocks of them. */
export function matmulOp(name: string, types: readonly WeightType[]): Op {
  return {
    name,
    problems: (model, tokens) =>
      types.flatMap((type) =>
        Object.entries(matrices(shapes[model]!))
          .filter(([, { cols }]) => cols % weightFormats[type].block === 0)
          .flatMap(([name, matrix]) => problems(`${model}.${name}`, type, matrix, tokens)),
      ),
  };
}

/**
 * Rows, columns and tokens of the cut: past a panel of 16 rows, also in the halves that SwiGLU takes, past a superblock
 * of 64 columns, or of 256 where they are filled up to one, and two of the blocks of 128 tokens that a product is cut into.
 */
const cut = { rows: 192, cols: 544, tokens: 257 };

const model =
  "2 · rows · cols · tokens operations; the weights read once; out and down with the sum, gate_up with SwiGLU after " +
  "them, whose operations are not counted";

function problems(shape: string, type: WeightType, matrix: Matrix, tokens: readonly number[]): Problem[] {
  const { rows, cols, as } = matrix;
  const bytes = native.matrixBytes("cpu", type, rows, cols);
  const operands = (device: Device) => operandsOf(device, type, matrix, Math.ceil(rotationBytes() / bytes));
  return tokens.map((count) => ({
    shape,
    tokens: count,
    format: type,
    work: {
      bytes,
      operations: 2 * rows * cols * count,
      model,
      unit: multiplierOf(type) === "int8" ? "GOP/s" : "GFLOP/s",
      memory: "readGBs",
      by: multiplierOf(type),
    },
    operands,
    result: async (execution) => {
      const { block } = weightFormats[type];
      const some = { rows: Math.min(rows, cut.rows), cols: Math.min(cols, Math.ceil(cut.cols / block) * block), as };
      using device = new Device({ device: "cpu", ...execution });
      using made = await operandsOf(device, type, some, 1);
      return await made.result(device, Math.min(count, cut.tokens));
    },
  }));
}

/** `count` matrices, which take turns. */
async function operandsOf(device: Device, type: WeightType, { rows, cols, as }: Matrix, count: number) {
  using made = new Cleanup();
  const width = as === "matmulSwiGlu" ? rows / 2 : rows;
  const table = made.handle(await randomTable(device, cols));
  // Memory as it is found may hold anything: what is added to, random numbers are put into first.
  const start = as === "matmulAdd" ? made.handle(await randomTable(device, width)) : undefined;
  const weights: TensorHandle[] = [];
  for (let i = 0; i < count; i++) weights.push(made.handle(await randomMatrix(device, type, rows, cols, i)));
  const record = (program: Program, times: number): Value => {
    const x = filled(program, table);
    const out = start !== undefined ? filled(program, start) : program.value("tokens", width);
    for (let i = 0; i < times; i++) program[as](x, weights[i % count]!, out);
    return out;
  };
  const dispose = made.move();
  return {
    repeated: (runner: Device, tokens: number, times: number) =>
      programOf(runner, (program) => record(program, times), uncachedBatch(tokens)),
    /** Of one run. */
    result: (runner: Device, tokens: number) =>
      resultOf(runner, (program) => record(program, 1), uncachedBatch(tokens)),
    [Symbol.dispose]: dispose,
  };
}
