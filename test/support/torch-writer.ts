/** Builds files for tests as torch.save does of a dictionary of tensors (checked against those of torch 1.13). */
import { encodeZip, type ZipOptions, type ZipSpec } from "./zip-writer.js";

export type TorchType = "f32" | "f16" | "bf16";

export interface TorchSpec {
  name: string;
  /** A type, or damage: the global of a storage as "module name". */
  type: TorchType | string;
  shape: readonly number[];
  /** The storage's bytes. */
  data: Uint8Array;
  /** Where in the storage the tensor begins, in elements; 0 unless given. */
  begin?: number;
  /** Row-major unless given. */
  strides?: readonly number[];
  /** The elements that the storage is said to have; what its bytes are unless given. */
  length?: number;
  /** The storage's key; the tensor's place among all unless given. */
  key?: string;
}

const storages: Readonly<Record<string, string>> = {
  f32: "torch FloatStorage",
  f16: "torch HalfStorage",
  bf16: "torch BFloat16Storage",
};

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** Opcodes of Python's pickler, in protocol 2. */
export const pickle = {
  start: Buffer.of(0x80, 2),
  stop: Buffer.from("."),
  mark: Buffer.from("("),
  tuple: Buffer.from("t"),
  reduce: Buffer.from("R"),
  persistentId: Buffer.from("Q"),
  emptyTuple: Buffer.from(")"),
  emptyDict: Buffer.from("}"),
  setItems: Buffer.from("u"),
  false: Buffer.of(0x89),
  text: (value: string) => Buffer.concat([Buffer.from("X"), u32(Buffer.byteLength(value)), Buffer.from(value)]),
  global: (name: string) => Buffer.from(`c${name.replace(" ", "\n")}\n`),
  integer: (value: number): Buffer => {
    if (value >= 0 && value < 256) return Buffer.of(0x4b, value);
    if (value >= 0 && value < 65_536) return Buffer.of(0x4d, value & 0xff, value >> 8);
    if (Math.abs(value) < 2 ** 31) return Buffer.concat([Buffer.from("J"), u32(value >>> 0)]);
    const long = Buffer.alloc(8);
    long.writeBigInt64LE(BigInt(value));
    return Buffer.concat([Buffer.of(0x8a, 8), long]);
  },
  put: (index: number): Buffer =>
    index < 256 ? Buffer.of(0x71, index) : Buffer.concat([Buffer.from("r"), u32(index)]),
  get: (index: number): Buffer =>
    index < 256 ? Buffer.of(0x68, index) : Buffer.concat([Buffer.from("j"), u32(index)]),
} as const;

/** Writes values in the order of the pickler, which notes each, and names what it has named once by its number. */
class Pickler {
  readonly parts: Buffer[] = [pickle.start];
  readonly #memo = new Map<string, number>();
  #next = 0;

  put(...opcodes: Buffer[]): void {
    this.parts.push(...opcodes, pickle.put(this.#next++));
  }

  once(opcode: Buffer): void {
    const key = opcode.toString("latin1");
    const known = this.#memo.get(key);
    if (known !== undefined) return void this.parts.push(pickle.get(known));
    this.#memo.set(key, this.#next);
    this.put(opcode);
  }

  integers(values: readonly number[]): void {
    const [tuple1, tuple2, tuple3] = [0x85, 0x86, 0x87].map((code) => Buffer.of(code)) as [Buffer, Buffer, Buffer];
    const all = values.map(pickle.integer);
    if (values.length === 0) this.parts.push(pickle.emptyTuple);
    else if (values.length <= 3) this.put(...all, [tuple1, tuple2, tuple3][values.length - 1]!);
    else this.put(pickle.mark, ...all, pickle.tuple);
  }
}

/** The pickle of a dictionary of tensors. */
export function encodePickle(tensors: readonly TorchSpec[]): Buffer {
  const pickler = new Pickler();
  pickler.put(pickle.emptyDict);
  pickler.parts.push(pickle.mark);
  for (const [i, tensor] of tensors.entries()) {
    pickler.put(pickle.text(tensor.name));
    pickleTensor(pickler, tensor, String(i));
  }
  return Buffer.concat([...pickler.parts, pickle.setItems, pickle.stop]);
}

function pickleTensor(pickler: Pickler, tensor: TorchSpec, key: string): void {
  const { parts } = pickler;
  pickler.once(pickle.global("torch._utils _rebuild_tensor_v2"));
  parts.push(pickle.mark, pickle.mark);
  pickler.once(pickle.text("storage"));
  pickler.once(pickle.global(storages[tensor.type] ?? tensor.type));
  pickler.once(pickle.text(tensor.key ?? key));
  pickler.once(pickle.text("cpu"));
  parts.push(pickle.integer(tensor.length ?? tensor.data.length / (tensor.type === "f32" ? 4 : 2)));
  pickler.put(pickle.tuple);
  parts.push(pickle.persistentId, pickle.integer(tensor.begin ?? 0));
  pickler.integers(tensor.shape);
  pickler.integers(tensor.strides ?? rowMajor(tensor.shape));
  parts.push(pickle.false);
  pickler.once(pickle.global("collections OrderedDict"));
  pickler.put(pickle.emptyTuple, pickle.reduce);
  pickler.put(pickle.tuple);
  pickler.put(pickle.reduce);
}

const rowMajor = (shape: readonly number[]) =>
  shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * n, 1));

/** The entries of the archive. */
export function torchEntries(tensors: readonly TorchSpec[], root = "archive"): ZipSpec[] {
  return [
    { name: `${root}/data.pkl`, data: encodePickle(tensors) },
    ...tensors
      .map(({ data, key }, i) => ({ name: `${root}/data/${key ?? i}`, data }))
      .filter(({ name }, i, all) => all.findIndex((other) => other.name === name) === i),
    { name: `${root}/version`, data: Buffer.from("3\n") },
  ];
}

/** The file's bytes. */
export const encodeTorch = (tensors: readonly TorchSpec[], options?: ZipOptions): Buffer =>
  encodeZip(torchEntries(tensors), options);
