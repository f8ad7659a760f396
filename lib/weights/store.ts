/// <reference lib="esnext.disposable" preserve="true" />
import { unaborted } from "../abort.js";
import type { Device } from "../device.js";
import { CriaError, CriaFileError } from "../errors.js";
import { type DeviceHandle, native, type TensorHandle } from "../native.js";
import type { Fallback } from "./fallbacks.js";
import type { GgufValue } from "./gguf-header.js";
import type { LoadedType } from "./quantized.js";
import type { FileTensor, ModelIndex, TensorInfo } from "./source.js";
import { weightBytes } from "./source.js";

/** Where weights come from: their shapes, and a way to put one at a row of a tensor on the device. */
export interface WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  pack(info: TensorInfo, into: TensorHandle, row: number): Promise<void>;
  /** The same, into a tensor of another type. Absent where the source cannot. */
  convert?(info: TensorInfo, into: TensorHandle, row: number): Promise<void>;
  /** The matrix of these, stacked, as the source has it in the device's own layout. Absent where it has none. */
  stored?(device: DeviceHandle, parts: readonly TensorInfo[]): Promise<TensorHandle>;
}

/** A model that was recognised: its index, and the way to its weights. */
export interface ModelFile extends ModelIndex {
  /** All keys of a GGUF file, for what is made of it to keep. */
  readonly keys?: ReadonlyMap<string, GgufValue>;
  /** Whether the matrices stand in the kernels' layout, so that they can be mapped. */
  readonly mappable: boolean;
  /**
   * What it was read from beside `path` and the files of `tensors`, as far as it is there: shards, tokenizers,
   * settings.
   */
  readonly files?: readonly string[];
  /** Matrices that are not of the type that `quantize` asked for. */
  readonly fallbacks?: readonly Fallback[];
  /** To be disposed when the weights were loaded. */
  source(options?: Pick<LoadOptions, "mmap">): WeightSource & Disposable;
}

/** A model's tensors by name, each asked for once, in the order of the forward pass. */
export interface TensorStore<Tensor> {
  has(name: string): boolean;
  /** A vector, as f32. */
  vector(name: string): Promise<Tensor>;
  /** Matrices of one type and as many columns, stacked into one: their products with a vector are then one product. */
  matrix(...names: string[]): Promise<Tensor>;
  /** The same where the types allow it, and one matrix for each where they differ. */
  stacked(...names: string[]): Promise<Tensor[]>;
  /** Of matrices whose columns are not their inputs in order, {@link TensorInfo.columns}. */
  readonly columns?: ReadonlyMap<Tensor, Int32Array>;
}

/** What {@link TensorStore.stacked} makes one matrix of. */
export function stacksOf(infos: readonly TensorInfo[]): (readonly TensorInfo[])[] {
  const [first] = infos;
  const alike = infos.every(({ type, columns }) => type === first!.type && columns === first!.columns);
  return alike ? [infos] : infos.map((info) => [info]);
}

/** Weights in files. They are read and packed natively, and never enter JavaScript. */
export function fileSource(tensors: ReadonlyMap<string, FileTensor>): WeightSource & Disposable {
  const reading = async (name: string, read: (tensor: FileTensor) => Promise<void>) => {
    const tensor = tensors.get(name)!;
    try {
      await read(tensor);
    } catch (error) {
      throw naming(error, tensor.file, name);
    }
  };
  return {
    tensors,
    pack: ({ name, rows }, into, row) =>
      reading(name, ({ file, offset }) => native.tensorPackFile(into, row, rows, file, offset)),
    convert: ({ name, rows }, into, row) =>
      reading(name, ({ file, offset, type }) => native.tensorConvertFile(into, row, rows, file, offset, type)),
    [Symbol.dispose]: () => undefined,
  };
}

/** A file's error with the tensor's name, which native code does not know; any other error as it is. */
export function naming(error: unknown, file: string, tensor: string): unknown {
  if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_FILE") return error;
  const prefix = `${file}: `;
  const problem = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
  return new CriaFileError(file, tensor, problem, "ERR_CRIA_FILE", { cause: error });
}

/** The error of weights that cannot be encoded, with the name of their tensor; any other error as it is. */
export function namingNumbers(error: unknown, file: string, tensor: string): unknown {
  if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_NUMBERS") return error;
  return new CriaError("ERR_CRIA_NUMBERS", `${file}: ${tensor}: ${error.message}`, { cause: error });
}

/** How a model's file is read. */
export interface LoadOptions {
  /**
   * Whether the matrices of a packed file are mapped: several processes then share them, and nothing is copied. Should
   * somebody cut that file or write over it while it is in use, the process ends with SIGBUS; with `false` the matrices
   * are read into memory of the process's own, and nothing that becomes of the file matters. GGUF files are always
   * read. Default: true.
   */
  mmap?: boolean | undefined;
  /**
   * The file whose vocabulary is used: any that a model can be, or one that holds nothing else, such as llama2.c's
   * `tokenizer.bin`. It must have as many tokens as the model. Default: the vocabulary that the model's file holds, or
   * else the one that stands beside it.
   */
  tokenizer?: string | undefined;
  /**
   * What matrices of f32, f16 and bf16 become while they are loaded, whatever the file: "q8_0", "q4_0", "q4_K" and
   * their like. Vectors stay as they are. Rows that are no whole number of blocks of the type (256 weights of q2_K to
   * q6_K, 32 of the others) become iq4_nl for q2_K and q3_K, q5_0 for q4_K, q5_1 for q5_K and q8_0 for q6_K, or else
   * stay: `loadModel` warns of how many. Default: none.
   */
  quantize?: LoadedType | undefined;
  /** Called after each tensor with the bytes packed so far, as they stand in a file of their type, and those of all. */
  onProgress?: ((loaded: number, total: number) => void) | undefined;
  /** Stops the loading between two tensors, two adapters, or two parts of a tensor that one is merged into. */
  signal?: AbortSignal | undefined;
}

/** The tensors of one model on one device: packed, or taken as they are stored, one by one, freed together. */
export class WeightStore implements TensorStore<TensorHandle> {
  readonly #device: Device;
  readonly #source: WeightSource;
  readonly #options: LoadOptions;
  /** By the name of each, with its first row there; those that are stacked share one. */
  readonly #tensors = new Map<string, { tensor: TensorHandle; row: number }>();
  readonly #columns = new Map<TensorHandle, Int32Array>();
  readonly #total: number;
  #loaded = 0;

  constructor(device: Device, source: WeightSource, options: LoadOptions = {}) {
    this.#device = device;
    this.#source = source;
    this.#options = options;
    this.#total = [...source.tensors.values()].reduce((sum, info) => sum + fileBytes(info), 0);
  }

  has(name: string): boolean {
    return this.#source.tensors.has(name);
  }

  async vector(name: string): Promise<TensorHandle> {
    const info = this.#info(name);
    return this.#packed(native.vectorCreate(this.#device.handle, info.type, info.cols), [info]);
  }

  async matrix(...names: string[]): Promise<TensorHandle> {
    const infos = names.map((name) => this.#info(name));
    if (this.#source.stored !== undefined) return this.#stored(infos);
    const { type, cols } = infos[0]!;
    const rows = infos.reduce((sum, info) => sum + info.rows, 0);
    return this.#packed(native.matrixCreate(this.#device.handle, type, rows, cols), infos);
  }

  async stacked(...names: string[]): Promise<TensorHandle[]> {
    const matrices: TensorHandle[] = [];
    for (const stack of stacksOf(names.map((name) => this.#info(name)))) {
      matrices.push(await this.matrix(...stack.map(({ name }) => name)));
    }
    return matrices;
  }

  get columns(): ReadonlyMap<TensorHandle, Int32Array> {
    return this.#columns;
  }

  /** The memory that the tensors take on the device. */
  get bytes(): number {
    return [...this.#handles()].reduce((sum, tensor) => sum + native.tensorBytes(tensor), 0);
  }

  /** The memory that a tensor that was packed takes on the device, with those that it is stacked with. */
  bytesOf(name: string): number {
    return native.tensorBytes(this.#placed(name).tensor);
  }

  /** The weights' names, types and shapes, as they stand in the files. */
  get tensors(): ReadonlyMap<string, TensorInfo> {
    return this.#source.tensors;
  }

  /** Fills `into` with rows of a tensor that was packed, as they stand in a GGUF file; a vector's as f32. */
  unpack(name: string, row: number, rows: number, into: Uint8Array): void {
    const placed = this.#placed(name);
    native.tensorUnpack(placed.tensor, placed.row + row, rows, into);
  }

  dispose(): void {
    for (const tensor of this.#handles()) native.free(tensor);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #handles(): Set<TensorHandle> {
    return new Set([...this.#tensors.values()].map(({ tensor }) => tensor));
  }

  #placed(name: string): { tensor: TensorHandle; row: number } {
    const placed = this.#tensors.get(name);
    if (placed === undefined) throw new CriaError("ERR_CRIA_INTERNAL", `${name}: was not packed`);
    return placed;
  }

  #info(name: string): TensorInfo {
    const info = this.#source.tensors.get(name);
    if (info === undefined) throw new CriaError("ERR_CRIA_INTERNAL", `${name}: is not among the weights`);
    return info;
  }

  async #packed(tensor: TensorHandle, parts: readonly TensorInfo[]): Promise<TensorHandle> {
    this.#place(tensor, parts);
    for (const part of parts) {
      unaborted("the loading", this.#options.signal);
      const { row } = this.#placed(part.name);
      await this.#device.queue(() => this.#source.pack(part, tensor, row));
      this.#advance(part);
    }
    return tensor;
  }

  async #stored(parts: readonly TensorInfo[]): Promise<TensorHandle> {
    unaborted("the loading", this.#options.signal);
    const tensor = await this.#device.queue(() => this.#source.stored!(this.#device.handle, parts));
    this.#place(tensor, parts);
    for (const part of parts) this.#advance(part);
    return tensor;
  }

  /** Notes the parts of a tensor, top to bottom. */
  #place(tensor: TensorHandle, parts: readonly TensorInfo[]): void {
    const { columns } = parts[0]!;
    if (columns !== undefined) this.#columns.set(tensor, columns);
    let row = 0;
    for (const part of parts) {
      this.#tensors.set(part.name, { tensor, row });
      row += part.rows;
    }
  }

  #advance(part: TensorInfo): void {
    this.#loaded += fileBytes(part);
    this.#options.onProgress?.(this.#loaded, this.#total);
  }
}

/** As they stand in a file. */
const fileBytes = ({ type, rows, cols }: TensorInfo) => weightBytes(type, rows, cols);
