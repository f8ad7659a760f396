/** Matrices of 4-bit weights for tests: made from numbers, written as GPTQ and AWQ do, and as cria's own blocks. */
import type { Int4Matrix } from "../../lib/native.js";
import type { Random } from "./arbitraries.js";
import { fromHalf, toHalf } from "./half.js";
import type { SafetensorsSpec } from "./safetensors-writer.js";

/** w[output][input] = scale (q - zero), scale and zero being those of the input's group. */
export interface Int4Weights {
  readonly outputs: number;
  readonly inputs: number;
  readonly groups: number;
  /** Of each input. */
  readonly groupOf: readonly number[];
  /** [outputs][inputs], 0 to 15. */
  readonly quants: Uint8Array;
  /** [groups][outputs], 0 to 15. */
  readonly zeros: Uint8Array;
  /** [groups][outputs], the bits of binary16s. */
  readonly scales: Uint16Array;
}

export interface Int4Options {
  outputs: number;
  inputs: number;
  /** -1: one group. */
  groupSize: number;
  /** Inputs belong to groups in random order. */
  actOrder?: boolean;
  /** Zeros are 8. */
  symmetric?: boolean;
}

/** Scales have bits that a bfloat16 has too, and are such that sums of `inputs` products are about as large as what is summed. */
export function randomInt4(
  { outputs, inputs, groupSize, actOrder, symmetric }: Int4Options,
  next: Random,
): Int4Weights {
  const size = groupSize === -1 ? inputs : groupSize;
  const groups = Math.ceil(inputs / size);
  const inOrder = Array.from({ length: inputs }, (_, i) => Math.floor(i / size));
  const unit = 1 / (5 * Math.sqrt(inputs));
  return {
    outputs,
    inputs,
    groups,
    groupOf: actOrder ? shuffled(inOrder, next) : inOrder,
    quants: Uint8Array.from({ length: outputs * inputs }, () => next() % 16),
    zeros: Uint8Array.from({ length: groups * outputs }, () => (symmetric ? 8 : next() % 16)),
    scales: Uint16Array.from({ length: groups * outputs }, () => toHalf(unit * (1 + (next() % 64) / 64)) & 0xfff8),
  };
}

function shuffled<T>(items: readonly T[], next: Random): T[] {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = next() % (i + 1);
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all;
}

/** Eight numbers of four bits each in an int32, `order[i]` being the place of the one in bits 4i and up. */
function pack(numbers: (place: number) => number, order: readonly number[]): number {
  return order.reduce((word, place, i) => word | (numbers(place) << (4 * i)), 0);
}

const inOrder = [0, 1, 2, 3, 4, 5, 6, 7];
/** AutoAWQ's order_map. */
const awqOrder = [0, 2, 4, 6, 1, 3, 5, 7];

/** The int32s of rows of numbers, eight neighbours of a row in each. */
function packRows(rows: number, cols: number, at: (row: number, col: number) => number, order: readonly number[]) {
  return Int32Array.from({ length: (rows * cols) / 8 }, (_, i) => {
    const [row, first] = [Math.floor(i / (cols / 8)), (i % (cols / 8)) * 8];
    return pack((place) => at(row, first + place), order);
  });
}

/** qweight and qzeros. */
export function packInt4(weights: Int4Weights, layout: "gptq" | "awq", zerosLessOne: boolean) {
  const { outputs, inputs, groups, quants, zeros } = weights;
  const order = layout === "awq" ? awqOrder : inOrder;
  const quant = (input: number, output: number) => quants[output * inputs + input]!;
  const stored = (group: number, output: number) => (zeros[group * outputs + output]! + (zerosLessOne ? 15 : 0)) % 16;
  return {
    weights:
      layout === "awq"
        ? packRows(inputs, outputs, quant, order)
        : Int32Array.from({ length: (inputs / 8) * outputs }, (_, i) => {
            const [first, output] = [Math.floor(i / outputs) * 8, i % outputs];
            return pack((place) => quant(first + place, output), inOrder);
          }),
    zeros: packRows(groups, outputs, stored, order),
  };
}

export interface Stored {
  layout: "gptq" | "awq";
  zerosLessOne?: boolean;
  /** Of the scales. */
  dtype?: "F16" | "BF16" | "F32";
}

/** The tensors of a matrix in a file, by the endings of their names. */
export function int4Tensors(weights: Int4Weights, { layout, zerosLessOne = false, dtype = "F16" }: Stored) {
  const { outputs, inputs, groups, groupOf, scales } = weights;
  const packed = packInt4(weights, layout, zerosLessOne);
  const floats = Float32Array.from(scales, fromHalf);
  const scaleBytes = {
    F16: scales,
    F32: floats,
    BF16: new Uint16Array(floats.buffer).filter((_, i) => i % 2 === 1),
  };
  const tensor = (shape: number[], data: ArrayBufferView, type = "I32"): SafetensorsSpec => ({
    dtype: type,
    shape,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  });
  return {
    qweight: tensor(layout === "awq" ? [inputs, outputs / 8] : [inputs / 8, outputs], packed.weights),
    qzeros: tensor([groups, outputs / 8], packed.zeros),
    scales: tensor([groups, outputs], scaleBytes[dtype], dtype),
    ...(layout === "gptq" ? { g_idx: tensor([inputs], Int32Array.from(groupOf)) } : {}),
  };
}

/** Inputs by groups, each group filled up to a multiple of 32 with -1; and the group of each 32. */
export function orderOf({ groupOf, groups }: Int4Weights): { columns: number[]; columnGroups: number[] } {
  const columns: number[] = [];
  const columnGroups: number[] = [];
  for (let group = 0; group < groups; group++) {
    const own = groupOf.flatMap((of, input) => (of === group ? [input] : []));
    while (own.length % 32 > 0) own.push(-1);
    columns.push(...own);
    for (let i = 0; i < own.length; i += 32) columnGroups.push(group);
  }
  return { columns, columnGroups };
}

/** The matrix as rows of q4_z, or of q4_0, whose blocks have no zero: csrc/core/weights.h. */
export function int4Blocks(weights: Int4Weights, type: "q4_z" | "q4_0"): Uint8Array {
  const { outputs, inputs, quants, zeros, scales } = weights;
  const { columns, columnGroups } = orderOf(weights);
  const [bytes, nibbles] = type === "q4_z" ? [20, 4] : [18, 2];
  const out = new Uint8Array(outputs * columnGroups.length * bytes);
  const view = new DataView(out.buffer);
  for (let output = 0; output < outputs; output++) {
    for (const [b, group] of columnGroups.entries()) {
      const at = (output * columnGroups.length + b) * bytes;
      const zero = zeros[group * outputs + output]!;
      view.setUint16(at, scales[group * outputs + output]!, true);
      if (type === "q4_z") view.setUint16(at + 2, toHalf(zero), true);
      const quant = (k: number) => {
        const input = columns[32 * b + k]!;
        return input === -1 ? zero : quants[output * inputs + input]!;
      };
      for (let k = 0; k < 16; k++) out[at + nibbles + k] = quant(k) | (quant(k + 16) << 4);
    }
  }
  return out;
}

/** What `tensorPackInt4` takes. */
export function int4Matrix(weights: Int4Weights, layout: "gptq" | "awq", zerosLessOne: boolean): Int4Matrix {
  const { outputs, inputs, groups, scales } = weights;
  const { columns, columnGroups } = orderOf(weights);
  return {
    layout,
    zerosLessOne,
    inputs,
    outputs,
    groups,
    ...packInt4(weights, layout, zerosLessOne),
    scales,
    columns: Int32Array.from(columns),
    columnGroups: Int32Array.from(columnGroups),
  };
}
