import { expect } from "vitest";

type Numbers = Float32Array | Int32Array | Int8Array | Uint8Array | Uint16Array | Uint32Array;

/** Fails unless both hold the same bytes. */
export function expectSameBits(actual: Numbers, expected: Numbers): void {
  if (Buffer.compare(bytesOf(actual), bytesOf(expected)) === 0) return;
  const i = actual.findIndex((value, at) => !Object.is(value, expected[at]));
  expect.fail(`lengths ${actual.length} and ${expected.length}; at ${i}: ${actual[i]}, not ${expected[i]}`);
}

/** What `write` leaves in the array of `length` that it gets; fails where it writes beside it. */
export function written(length: number, write: (out: Float32Array) => void): Float32Array {
  const margin = 32; // two of the widest registers, so that a store past the end of a row stays inside
  const memory = new Float32Array(margin + length + margin).fill(Number.NaN);
  const out = memory.subarray(margin, margin + length);
  write(out);
  const beside = [...memory.subarray(0, margin), ...memory.subarray(margin + length)];
  if (!beside.every(Number.isNaN)) expect.fail(`wrote beside an array of ${length}`);
  return out;
}

/** Fails unless |actual - expected| <= tolerance(i) for every i; a NaN is never close. */
export function expectClose(actual: Float32Array, expected: ArrayLike<number>, tolerance: (i: number) => number): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((value, i) => {
    const error = Math.abs(value - expected[i]!);
    if (!(error <= tolerance(i))) expect.fail(`at ${i}: ${value}, not ${expected[i]} ± ${tolerance(i)}`);
  });
}

/** Fails unless `call` throws an error of that class and message, as a wrong argument. */
export function expectArgumentError(call: () => unknown, expected: TypeError | RangeError): void {
  expect(describeError(call)).toEqual({ name: expected.name, message: expected.message, code: "ERR_CRIA_ARGUMENT" });
}

/** What `call` throws. */
export function describeError(call: () => unknown): { name: string; message: string; code: unknown } | undefined {
  try {
    call();
  } catch (error) {
    const { name, message, code } = error as Error & { code?: unknown };
    return { name, message, code };
  }
  return undefined;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Numbers) => Buffer.from(buffer, byteOffset, byteLength);
