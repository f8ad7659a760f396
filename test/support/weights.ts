import type { PackWeightsOptions, WeightData, WeightType } from "../../lib/kernels.js";
import { type QuantisedType, weightBytes, weightFormats } from "../../lib/weights/source.js";
import { type Random, randomFloats, randomHalf } from "./arbitraries.js";
import { decodeRow } from "./float64.js";
import { halvesOf, isQuantised } from "./quantised.js";

/** A matrix of random weights, every value finite. */
export function randomWeights(type: WeightType, rows: number, cols: number, next: Random): PackWeightsOptions {
  return { type, rows, cols, data: randomData(type, rows, cols, next) };
}

function randomData(type: WeightType, rows: number, cols: number, next: Random): WeightData {
  if (type === "f32") return randomFloats(rows * cols, next);
  if (type === "f16") return Uint16Array.from({ length: rows * cols }, () => randomHalf(next));
  // The upper halves of float32s whose products are finite.
  if (type === "bf16") return new Uint16Array(randomFloats(rows * cols, next).buffer).filter((_, i) => i % 2 === 1);
  const data = Uint8Array.from({ length: weightBytes(type, rows, cols) }, () => next());
  const scales = new DataView(data.buffer);
  for (let at = 0; at < data.length; at += weightFormats[type].blockBytes) {
    for (const half of halvesOf[type]) scales.setUint16(at + half, randomHalf(next), true);
  }
  return data;
}

/** A quantised matrix of one byte over and over, but for the halves of its blocks, which are 1. */
export function constantWeights(type: QuantisedType, rows: number, cols: number, byte: number): PackWeightsOptions {
  const data = new Uint8Array(weightBytes(type, rows, cols)).fill(byte);
  const view = new DataView(data.buffer);
  for (let at = 0; at < data.length; at += weightFormats[type].blockBytes) {
    for (const half of halvesOf[type]) view.setUint16(at + half, 0x3c00, true);
  }
  return { type, rows, cols, data };
}

/** The weights' values, [rows, cols], exactly. */
export function dequantise({ type, rows, cols, data }: PackWeightsOptions): Float64Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const source = {
    tensors: new Map([["weight", { name: "weight", type, rows, cols }]]),
    read: (_: string, row: number, count: number) =>
      bytes.subarray(weightBytes(type, row, cols), weightBytes(type, row + count, cols)),
  };
  const values = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) values.set(decodeRow(source, "weight", row), row * cols);
  return values;
}

/** Weights whose values add up to these: those of the scales alone, and those of the minima where there are any. */
export function weightParts(weights: PackWeightsOptions): PackWeightsOptions[] {
  const { type, data } = weights;
  if (type === "q4_z") return [q4zPart(weights, 2, 4), q4zPart(weights, 4, 20)];
  if (!isQuantised(type) || halvesOf[type].length === 1) return [weights];
  return halvesOf[type].map((half) => {
    const part = Uint8Array.from(data as Uint8Array);
    const view = new DataView(part.buffer);
    for (let at = 0; at < part.length; at += weightFormats[type].blockBytes) view.setUint16(at + half, 0);
    return { ...weights, data: part };
  });
}

/** Weights of q4_z without the zeros, or the quants: bytes [begin, end) of each block. */
function q4zPart(weights: PackWeightsOptions, begin: number, end: number): PackWeightsOptions {
  const data = Uint8Array.from(weights.data as Uint8Array, (byte, i) => (i % 20 >= begin && i % 20 < end ? 0 : byte));
  return { ...weights, data };
}
