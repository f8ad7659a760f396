/**
 * Ops on the rows of activations, which stand where a forward pass has them: in the caches, as long as they fit. So a
 * share of memory's bandwidth above 100 % says that they do.
 */
import type { Device } from "../../lib/device.js";
import type { Execution } from "../../lib/kernels.js";
import type { TensorHandle } from "../../lib/native.js";
import type { Program, Value } from "../../lib/program.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { Cleanup } from "../cleanup.js";
import { shapes } from "../shapes.js";
import { filled, moved, type Op, type Operands, programOf, randomTable, uncachedBatch } from "./op.js";

export interface RowOp {
  name: string;
  /** What of a model its rows are as wide as, as a shape's name has it: "dim". */
  of: "dim" | "ffn";
  /** Bytes that it moves for each of those. */
  bytes: number;
  /** What they are. */
  model: string;
  /** Floats of its input's rows. */
  inputWidth(width: number): number;
  /** Weights that it wants. */
  weights?(device: Device, width: number): Promise<TensorHandle>;
  record(program: Program, x: Value, out: Value, weights: TensorHandle | undefined): void;
  /** Of `rows` rows of `width`. */
  result(rows: number, width: number, execution: Execution): Float32Array;
}

/** Rows of the cut; its width is the model's own. */
const cutRows = 5;

export function rowOp(op: RowOp): Op {
  const widthOf = (config: LlamaConfig) => config[op.of];
  return {
    name: op.name,
    problems: (model, tokens) =>
      tokens.map((count) => {
        const width = widthOf(shapes[model]!);
        return {
          shape: `${model}.${op.of}`,
          tokens: count,
          work: moved(op.bytes * width * count, op.model),
          operands: async (device): Promise<Operands> => {
            using made = new Cleanup();
            const table = made.handle(await randomTable(device, op.inputWidth(width)));
            const weights = await op.weights?.(device, width);
            if (weights !== undefined) made.handle(weights);
            const dispose = made.move();
            return {
              repeated: (runner, _, times) =>
                programOf(
                  runner,
                  (program) => {
                    const x = filled(program, table);
                    const out = program.value("tokens", width);
                    for (let i = 0; i < times; i++) op.record(program, x, out, weights);
                  },
                  uncachedBatch(count),
                ),
              [Symbol.dispose]: dispose,
            };
          },
          result: async (execution) => op.result(Math.min(count, cutRows), width, execution),
        };
      }),
  };
}
