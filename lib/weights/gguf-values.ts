/**
 * What stands in a GGUF file, as bytes: keys and their values, and the headers of tensors. The format is that of
 * gguf-header.ts, which reads it.
 */
import { type WeightType, weightFormats } from "./source.js";

/** Ids of GGUF's value types, in their order. */
export const valueTypes = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** A key's value: its type's id and its bytes. */
export interface Value {
  type: number;
  bytes: Uint8Array;
}

export type ScalarType = Exclude<keyof typeof valueTypes, "array">;

const encoders: Record<ScalarType, (x: never) => Buffer> = {
  u8: (x: number) => Buffer.of(x),
  i8: (x: number) => Buffer.from(Int8Array.of(x).buffer),
  u16: (x: number) => Buffer.from(Uint16Array.of(x).buffer),
  i16: (x: number) => Buffer.from(Int16Array.of(x).buffer),
  u32: (x: number) => Buffer.from(Uint32Array.of(x).buffer),
  i32: (x: number) => Buffer.from(Int32Array.of(x).buffer),
  f32: (x: number) => Buffer.from(Float32Array.of(x).buffer),
  f64: (x: number) => Buffer.from(Float64Array.of(x).buffer),
  u64: (x: number | bigint) => Buffer.from(BigUint64Array.of(BigInt(x)).buffer),
  i64: (x: number | bigint) => Buffer.from(BigInt64Array.of(BigInt(x)).buffer),
  bool: (x: boolean | number) => Buffer.of(Number(x)),
  string: (x: string) => Buffer.concat([encode("u64", Buffer.byteLength(x)), Buffer.from(x)]),
};

export const encode = (type: ScalarType, x: unknown): Buffer => encoders[type](x as never);

/** Values of a type. */
export const scalar =
  <T>(type: ScalarType) =>
  (x: T): Value => ({ type: valueTypes[type], bytes: encode(type, x) });

export const u32 = scalar<number>("u32");
export const i32 = scalar<number>("i32");
export const f32 = scalar<number>("f32");
export const bool = scalar<boolean | number>("bool");
export const string = scalar<string>("string");

/** An array of `element`; `count` is what the file says of its length, the truth unless given. */
export function array(element: ScalarType, values: readonly unknown[], count: number | bigint = values.length): Value {
  const bytes = [encode("u32", valueTypes[element]), encode("u64", count), ...values.map((x) => encode(element, x))];
  return { type: valueTypes.array, bytes: Buffer.concat(bytes) };
}

/** A key with its value. */
export const encodeKey = (key: string, { type, bytes }: Value): Buffer =>
  Buffer.concat([encode("string", key), encode("u32", type), bytes]);

/** A tensor's header. `shape` is fastest first, `offset` is from the start of the data section. */
export function encodeTensorHeader(
  name: string,
  shape: readonly (number | bigint)[],
  type: WeightType | number,
  offset: number | bigint,
): Buffer {
  return Buffer.concat([
    encode("string", name),
    encode("u32", shape.length),
    ...shape.map((n) => encode("u64", n)),
    encode("u32", typeof type === "number" ? type : weightFormats[type].id),
    encode("u64", offset),
  ]);
}

/** The first bytes of a file, before its keys. */
export function encodeStart(
  tensors: number | bigint,
  keys: number | bigint,
  { magic = "GGUF", version = 3 }: { magic?: string; version?: number } = {},
): Buffer {
  return Buffer.concat([
    Buffer.from(magic, "latin1"),
    encode("u32", version),
    encode("u64", tensors),
    encode("u64", keys),
  ]);
}

/** Bytes from `length` to the next multiple of `alignment`. */
export const padding = (length: number, alignment: number): number => (alignment - (length % alignment)) % alignment;
