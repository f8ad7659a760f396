/**
 * The native addon's whole surface: csrc/cria.h, function by function, under the same names in camel case. Units, shapes
 * and rules are that header's; here stands what differs in JavaScript.
 *
 * - Arguments are checked: a value of the wrong type or a detached array throws a TypeError, one outside its range, an
 *   array of the wrong length or an output that overlaps an input a RangeError, each with the code ERR_CRIA_ARGUMENT.
 *   Other failures are CriaErrors (lib/errors.ts).
 * - Functions that return a promise work on a thread of the libuv pool, on copies of their arrays.
 * - A handle is freed by `free`, at once or when the work that uses it is done, or by the garbage collector.
 */

declare const kind: unique symbol;
type Handle<Name extends string> = { readonly [kind]: Name };

export type DeviceHandle = Handle<"device">;
export type TensorHandle = Handle<"tensor">;
export type CacheHandle = Handle<"cache">;
export type ProgramHandle = Handle<"program">;
export type CancelHandle = Handle<"cancel">;
export type FileHandle = Handle<"file">;

/** The CRIA_ABI_VERSION that the addon was built for. It does not load where libcria beside it is of another. */
export function abiVersion(): number;

/** The addon calls it to make its errors: `new errorClass(code, message)`. */
export function setErrorClass(errorClass: new (code: never, message: string) => Error): void;

/** Frees a handle of any kind; freed already is no error. Using it afterwards throws ERR_CRIA_DISPOSED. */
export function free(handle: Handle<string>): void;

export type HandleCounts = Record<"device" | "tensor" | "cache" | "program" | "cancel" | "file", number>;

/**
 * How many handles of each kind the process has that are not freed yet: those of objects, in all its environments, and
 * those that work under way still holds.
 */
export function handleCounts(): HandleCounts;

/** "cuda-emulated" is the CUDA kernels on the CPU, slowly: for tests, where the library was built so. */
export type DeviceKind = "cpu" | "cuda" | "cuda-emulated";
export type Isa = "scalar" | "avx2" | "avx512";
export type WeightType = FloatType | QuantisedType;
export type FloatType = "f32" | "f16" | "bf16";
/** GGML's, under its names, and cria's own q4_z, which GPTQ and AWQ are held in. */
export type QuantisedType =
  | "q8_0"
  | "q4_0"
  | "q4_1"
  | "q5_0"
  | "q5_1"
  | "q2_K"
  | "q3_K"
  | "q4_K"
  | "q5_K"
  | "q6_K"
  | "iq4_nl"
  | "q4_z";
export type CacheType = "f32" | "f16" | "q8_0";

/** The processor. */
export interface CpuInfo {
  available: true;
  kind: "cpu";
  /** Of the processor. */
  name: string;
  /** That it runs, or would choose. */
  isa: Isa;
  /** That can be asked for. */
  isas: Isa[];
  threads: number;
  memoryBytes: number;
  availableBytes: number;
}

/** A GPU that can be used. */
export interface GpuInfo {
  available: true;
  kind: "cuda" | "cuda-emulated";
  /** Of the GPU. */
  name: string;
  memoryBytes: number;
  /** Before the device is opened, all of it. */
  availableBytes: number;
}

export type DeviceInfo = CpuInfo | GpuInfo;

/** A kind of device that cannot be used, and why. */
export interface AbsentDevice {
  available: false;
  kind: DeviceKind;
  /** Of the error that asking for it throws. */
  code: "ERR_CRIA_UNSUPPORTED";
  reason: string;
}

export function deviceDescribe(kind: DeviceKind): DeviceInfo | AbsentDevice;
/** `isa` undefined and `threads` 0: the device's own choice. */
export function deviceOpen(kind: DeviceKind, isa: Isa | undefined, threads: number): DeviceHandle;
export function deviceInfo(device: DeviceHandle): DeviceInfo;
/** cria_limit. */
export type LimitKind = "read" | "copy" | "fma" | "maddubs" | "dpbusd" | "bf16dot";
/** Bytes or operations a second, of each sample. */
export function measureLimit(device: DeviceHandle, limit: LimitKind, samples: number): Promise<Float64Array>;

export function matrixCreate(device: DeviceHandle, type: WeightType, rows: number, cols: number): TensorHandle;
/** Opens a file at once, on JavaScript's thread. Matrices that are mapped from it keep what they need of it. */
export function fileOpen(path: string): FileHandle;
export function matrixMap(
  device: DeviceHandle,
  type: WeightType,
  rows: number,
  cols: number,
  file: FileHandle,
  offset: number,
): Promise<TensorHandle>;
/** The same in memory of its own. */
export function matrixRead(
  device: DeviceHandle,
  type: WeightType,
  rows: number,
  cols: number,
  file: FileHandle,
  offset: number,
): Promise<TensorHandle>;
export function matrixLayout(kind: DeviceKind): number;
export function matrixBytes(kind: DeviceKind, type: WeightType, rows: number, cols: number): number;
export function vectorCreate(device: DeviceHandle, type: WeightType, size: number): TensorHandle;
export function tensorPack(tensor: TensorHandle, row: number, rows: number, data: Uint8Array): void;
export function tensorPackFile(
  tensor: TensorHandle,
  row: number,
  rows: number,
  path: string,
  offset: number,
): Promise<void>;
/** cria_int4: a matrix of 4-bit weights as GPTQ or AWQ lays it out. */
export interface Int4Matrix {
  layout: "gptq" | "awq";
  /** Whether the zeros are stored less one, modulo 16, as in GPTQ's first version. */
  zerosLessOne: boolean;
  inputs: number;
  outputs: number;
  groups: number;
  /** qweight. */
  weights: Int32Array;
  /** qzeros: [groups, outputs / 8]. */
  zeros: Int32Array;
  /** [groups, outputs], binary16. */
  scales: Uint16Array;
  /** Of each column of the tensor the input, -1 for none. */
  columns: Int32Array;
  /** Of each 32 columns the group. */
  columnGroups: Int32Array;
}
/** Packs it at rows [row, row + outputs) of a tensor of q4_z, or of q4_0 where every zero is 8. */
export function tensorPackInt4(tensor: TensorHandle, row: number, matrix: Int4Matrix): Promise<void>;
export function tensorUnpack(tensor: TensorHandle, row: number, rows: number, data: Uint8Array): void;
/** Fills `data` with the packed bytes from `offset` on. */
export function tensorReadPacked(tensor: TensorHandle, offset: number, data: Uint8Array): void;
export function tensorFillRandom(tensor: TensorHandle, seed: number, deviation: number): Promise<void>;
export function tensorRows(tensor: TensorHandle): number;
export function tensorCols(tensor: TensorHandle): number;
export function tensorBytes(tensor: TensorHandle): number;

/** `out` has a multiple of `cols` weights, and `data` the bytes of as many. */
export function weightsDecode(type: WeightType, cols: number, data: Uint8Array, out: Float32Array): void;
/** Fills `out` with the bytes of `x` when it is done: it must not be detached or resized until then. */
export function weightsEncode(
  device: DeviceHandle,
  type: WeightType,
  cols: number,
  x: Float32Array,
  out: Uint8Array,
): Promise<void>;
export function tensorConvert(
  tensor: TensorHandle,
  row: number,
  rows: number,
  from: WeightType,
  data: Uint8Array,
): void;
export function tensorConvertFile(
  tensor: TensorHandle,
  row: number,
  rows: number,
  path: string,
  offset: number,
  from: WeightType,
): Promise<void>;

/** What a cache is of: cria_cache_options without its blocks. */
export interface CacheShape {
  keys: CacheType;
  values: CacheType;
  layers: number;
  kvHeads: number;
  headDim: number;
}
export function cacheCreate(device: DeviceHandle, shape: CacheShape, blocks: number): CacheHandle;
export function cacheBytes(cache: CacheHandle): number;
/** Fills `out` with the bytes of the blocks when it is done: it must not be detached or resized until then. */
export function cacheRead(cache: CacheHandle, blocks: Int32Array, out: Uint8Array): Promise<void>;
export function cacheWrite(cache: CacheHandle, blocks: Int32Array, bytes: Uint8Array): Promise<void>;
/** `rope` may be undefined where `shift` is 0. */
export function cacheMove(
  cache: CacheHandle,
  from: Int32Array,
  to: Int32Array,
  shift: number,
  rope: RopeOptions | undefined,
): Promise<void>;

/** cria_batch: see cria.h for what each array holds. Empty where a kernel needs none. */
export interface NativeBatch {
  tokens: Int32Array;
  positions: Int32Array;
  lengths: Int32Array;
  pasts: Int32Array;
  blockCounts: Int32Array;
  blocks: Int32Array;
  outputs: Int32Array;
}

/** cria_rope_options. */
export interface RopeOptions {
  heads: number;
  rotaryDim: number;
  halves: boolean;
  theta: number;
  scale: number;
  frequencies?: Float64Array;
  magnitude?: number;
}

export function programCreate(device: DeviceHandle, cache: CacheShape): ProgramHandle;
export function programValue(program: ProgramHandle, rows: "tokens" | "outputs", width: number): number;
export function programEmbed(program: ProgramHandle, table: TensorHandle, out: number): void;
export function programRmsnorm(program: ProgramHandle, x: number, weight: TensorHandle, eps: number, out: number): void;
export function programMatmul(
  program: ProgramHandle,
  x: number,
  weight: TensorHandle,
  out: number,
  column: number,
): void;
export function programMatmulAdd(program: ProgramHandle, x: number, weight: TensorHandle, out: number): void;
export function programMatmulSwiglu(program: ProgramHandle, x: number, weight: TensorHandle, out: number): void;
export function programRope(program: ProgramHandle, qkv: number, layer: number, options: RopeOptions): void;
export function programAttention(program: ProgramHandle, qkv: number, layer: number, heads: number, out: number): void;
export function programPrefixAttention(
  program: ProgramHandle,
  qkv: number,
  keys: TensorHandle,
  values: TensorHandle,
  gates: TensorHandle,
  out: number,
): void;
export function programSwiglu(program: ProgramHandle, gateUp: number, out: number): void;
export function programAdd(program: ProgramHandle, x: number, y: number, out: number): void;
export function programSelect(program: ProgramHandle, x: number, out: number): void;
export function programGather(program: ProgramHandle, x: number, columns: Int32Array, out: number): void;
export function programFinish(program: ProgramHandle, result: number): void;

export function cancelCreate(): CancelHandle;
export function cancelTrigger(cancel: CancelHandle): void;

/** `width` is that of the result: the promise is of [outputs, width] floats. */
export function programRun(
  program: ProgramHandle,
  cache: CacheHandle,
  batch: NativeBatch,
  width: number,
  cancel: CancelHandle | undefined,
): Promise<Float32Array>;

/** cria_sampling: `seed` is an integer from 0 to 2^53 - 1. */
export interface Sampling {
  temperature: number;
  topP: number;
  seed: number;
}

/** The promise is of the [sequences, steps] tokens that were drawn. `outputs` of the batch is ignored. */
export function programDecode(
  program: ProgramHandle,
  cache: CacheHandle,
  batch: NativeBatch,
  candidates: number,
  sampling: readonly Sampling[],
  steps: number,
  cancel: CancelHandle | undefined,
): Promise<Int32Array>;

export function rmsnorm(
  device: DeviceHandle,
  x: Float32Array,
  weight: Float32Array,
  eps: number,
  out: Float32Array,
): void;
export function quantize(
  device: DeviceHandle,
  dim: number,
  x: Float32Array,
  quants: Int8Array,
  scales: Float32Array,
  sums: Int32Array,
): void;
export function embed(device: DeviceHandle, table: TensorHandle, tokens: Int32Array, out: Float32Array): void;
export function matmul(device: DeviceHandle, weight: TensorHandle, x: Float32Array, out: Float32Array): void;

/** One layer of a cache in arrays of the caller's: Float32Array for f32, Uint16Array for f16, Uint8Array for q8_0. */
export interface KvArrays {
  keys: CacheType;
  values: CacheType;
  blocks: number;
  kvHeads: number;
  headDim: number;
  k: Float32Array | Uint16Array | Uint8Array;
  v: Float32Array | Uint16Array | Uint8Array;
}
export function rope(
  device: DeviceHandle,
  batch: NativeBatch,
  options: RopeOptions,
  cache: KvArrays,
  qkv: Float32Array,
): void;
export function attention(
  device: DeviceHandle,
  batch: NativeBatch,
  heads: number,
  cache: KvArrays,
  q: Float32Array,
  qStride: number,
  out: Float32Array,
): void;
export function swiglu(device: DeviceHandle, dim: number, gateUp: Float32Array, out: Float32Array): void;
export function add(device: DeviceHandle, x: Float32Array, y: Float32Array, out: Float32Array): void;
