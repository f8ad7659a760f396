import { describe, expect, test } from "vitest";

import { type Execution, embed, packWeights, rope } from "../lib/kernels.js";
import { expectSameBits } from "./support/compare.js";
import { fromHalf, toHalf } from "./support/half.js";
import { executions } from "./support/isas.js";

const everyBits = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);

/** Widens 65,536 values of 16 bits, as the rows of a table. */
function widen(execution: Execution, type: "f16" | "bf16", data: Uint16Array): Float32Array {
  using table = packWeights({ type, rows: 256, cols: 256, data });
  const out = new Float32Array(65_536);
  embed({ table, tokens: Int32Array.from({ length: 256 }, (_, row) => row), out, ...execution });
  return out;
}

/** Narrows values to binary16, as the v that is written to a cache. Their number is padded to whole blocks. */
function narrow(execution: Execution, values: readonly number[]): Uint16Array {
  const headDim = 256;
  const blocks = Math.ceil(values.length / headDim / 16);
  const tokens = 16 * blocks;
  const qkv = new Float32Array(tokens * 3 * headDim);
  values.forEach((value, i) => {
    qkv[(Math.floor(i / headDim) * 3 + 2) * headDim + (i % headDim)] = value;
  });
  const v = new Uint16Array(tokens * headDim);
  rope({
    qkv,
    positions: new Int32Array(tokens),
    sequences: [{ length: tokens, past: 0, blocks: Array.from({ length: blocks }, (_, i) => i) }],
    cache: { keys: "f16", values: "f16", blocks, kvHeads: 1, headDim, k: new Uint16Array(v.length), v },
    heads: 1,
    ...execution,
  });
  return v.subarray(0, values.length);
}

describe("binary16", () => {
  test.each(executions)("$isa with $threads threads widens all 65,536 values exactly", (execution) => {
    const want = Float32Array.from(everyBits, fromHalf);
    const got = widen(execution, "f16", everyBits);
    got.forEach((value, bits) => {
      if (!Object.is(value, want[bits])) expect.fail(`${bits.toString(16)}: ${value}, not ${want[bits]}`);
    });
  });

  test.each(executions)("$isa with $threads threads keeps a NaN's sign and fraction, made quiet", (execution) => {
    const got = new Uint32Array(widen(execution, "f16", everyBits).buffer);
    const nans = everyBits.filter(isNan);
    const bits32 = (bits: number) => (((bits & 0x8000) << 16) | 0x7fc00000 | ((bits & 0x3ff) << 13)) >>> 0;
    expectSameBits(
      Uint32Array.from(nans, (bits) => got[bits]!),
      Uint32Array.from(nans, bits32),
    );
  });

  test.each(executions)("$isa with $threads threads narrows to the nearest, ties to even", (execution) => {
    // Every value, every midpoint between two, and the float32 on either side of the midpoint.
    const values = Array.from({ length: 0x7c00 }, (_, bits) => {
      const value = fromHalf(bits);
      const next = bits === 0x7bff ? 65_536 : fromHalf(bits + 1);
      const middle = (value + next) / 2;
      const ulp = 2 ** -23 * Math.max(middle, 2 ** -126);
      return [value, middle, Math.fround(middle - ulp), Math.fround(middle + ulp)];
    }).flat();
    values.push(2 ** -149, 2 ** -126, 65_535, 65_536, 1e38, Number.POSITIVE_INFINITY);
    const both = values.concat(values.map((value) => -value));
    expectSameBits(narrow(execution, both), Uint16Array.from(both, toHalf));
  });

  test("in this test's own arithmetic loses nothing on the way there and back", () => {
    const numbers = everyBits.filter((bits) => !isNan(bits));
    expectSameBits(
      Uint16Array.from(numbers, (bits) => toHalf(fromHalf(bits))),
      numbers,
    );
  });
});

describe("bfloat16", () => {
  test.each(executions)("$isa with $threads threads widens all 65,536 values exactly", (execution) => {
    const want = Uint32Array.from(everyBits, (bits) => bits << 16);
    expectSameBits(new Uint32Array(widen(execution, "bf16", everyBits).buffer), want);
  });
});

const isNan = (bits: number) => Number.isNaN(fromHalf(bits));
