/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "../device.js";
import { CriaError, CriaFileError } from "../errors.js";
import { native, type TensorHandle } from "../native.js";
import type { FileTensor, TensorInfo } from "./source.js";
import { weightBytes } from "./source.js";

/** Where weights come from: their shapes, and a way to put one at a row of a tensor on the device. */
export interface WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  pack(info: TensorInfo, into: TensorHandle, row: number): Promise<void>;
}

/** Weights in files. They are read and packed natively, and never enter JavaScript. */
export function fileSource(tensors: ReadonlyMap<string, FileTensor>): WeightSource {
  return {
    tensors,
    pack: async ({ name, rows }, into, row) => {
      const { file, offset } = tensors.get(name)!;
      try {
        await native.tensorPackFile(into, row, rows, file, offset);
      } catch (error) {
        throw naming(error, file, name);
      }
    },
  };
}

/** A file's error with the tensor's name, which native code does not know; any other error as it is. */
function naming(error: unknown, file: string, tensor: string): unknown {
  if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_FILE") return error;
  const prefix = `${file}: `;
  const problem = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
  return new CriaFileError(file, tensor, problem, "ERR_CRIA_FILE", { cause: error });
}

export interface LoadOptions {
  /** Called after each tensor with the bytes packed so far, as they stand in the file, and those of all. */
  onProgress?: (loaded: number, total: number) => void;
  /** Stops the loading between two tensors. */
  signal?: AbortSignal;
}

/** The tensors of one model on one device: packed one by one, freed together. */
export class WeightStore {
  readonly #device: Device;
  readonly #source: WeightSource;
  readonly #options: LoadOptions;
  /** By the name of each; those that are stacked share one. */
  readonly #tensors = new Map<string, TensorHandle>();
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

  /** A vector, as f32. */
  async vector(name: string): Promise<TensorHandle> {
    const info = this.#info(name);
    return this.#packed(native.vectorCreate(this.#device.handle, info.type, info.cols), [info]);
  }

  /** Matrices of one type and as many columns, stacked into one: their products with a vector are then one product. */
  async matrix(...names: string[]): Promise<TensorHandle> {
    const infos = names.map((name) => this.#info(name));
    const { type, cols } = infos[0]!;
    const rows = infos.reduce((sum, info) => sum + info.rows, 0);
    return this.#packed(native.matrixCreate(this.#device.handle, type, rows, cols), infos);
  }

  /** The same where the types allow it, and one matrix for each where they differ. */
  async stacked(...names: string[]): Promise<TensorHandle[]> {
    const types = new Set(names.map((name) => this.#info(name).type));
    if (types.size === 1) return [await this.matrix(...names)];
    const matrices: TensorHandle[] = [];
    for (const name of names) matrices.push(await this.matrix(name));
    return matrices;
  }

  /** The memory that the tensors take on the device. */
  get bytes(): number {
    return [...this.#handles()].reduce((sum, tensor) => sum + native.tensorBytes(tensor), 0);
  }

  /** The memory that a tensor that was packed takes on the device, with those that it is stacked with. */
  bytesOf(name: string): number {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new CriaError("ERR_CRIA_INTERNAL", `${name}: was not packed`);
    return native.tensorBytes(tensor);
  }

  dispose(): void {
    for (const tensor of this.#handles()) native.free(tensor);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #handles(): Set<TensorHandle> {
    return new Set(this.#tensors.values());
  }

  #info(name: string): TensorInfo {
    const info = this.#source.tensors.get(name);
    if (info === undefined) throw new CriaError("ERR_CRIA_INTERNAL", `${name}: is not among the weights`);
    return info;
  }

  async #packed(tensor: TensorHandle, parts: readonly TensorInfo[]): Promise<TensorHandle> {
    for (const { name } of parts) this.#tensors.set(name, tensor);
    let row = 0;
    for (const part of parts) {
      if (this.#options.signal?.aborted) {
        throw new CriaError("ERR_CRIA_ABORTED", "the loading was cancelled", { cause: this.#options.signal.reason });
      }
      const from = row;
      await this.#device.queue(() => this.#source.pack(part, tensor, from));
      row += part.rows;
      this.#loaded += fileBytes(part);
      this.#options.onProgress?.(this.#loaded, this.#total);
    }
    return tensor;
  }
}

/** As they stand in a file. */
const fileBytes = ({ type, rows, cols }: TensorInfo) => weightBytes(type, rows, cols);
