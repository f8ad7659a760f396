/** Matrices of 4-bit weights in safetensors, as GPTQ and AWQ store them: w = scale (q - zero), for groups of inputs. */
import { CriaFileError } from "../errors.js";
import { readRange } from "../files.js";
import { native } from "../native.js";
import { OpenFiles } from "./chunks.js";
import { type ColumnOrder, ColumnOrders, groupsOf } from "./column-order.js";
import { halvesOf } from "./exact-halves.js";
import type { LlamaTensor } from "./llama-tensors.js";
import { readFrom } from "./open.js";
import type { SafetensorsTensor, SafetensorsType } from "./safetensors.js";
import type { FileTensor, TensorInfo } from "./source.js";
import { fileSource, naming, type WeightSource } from "./store.js";
import { required } from "./stored-tensor.js";

/** What a model's `quantization_config` says of its matrices. */
export interface Int4Scheme {
  readonly layout: "gptq" | "awq";
  /** Inputs that share a scale and a zero; all of them where it is undefined. */
  readonly groupSize: number | undefined;
  /** Whether the zeros are stored less one, modulo 16. */
  readonly zerosLessOne: boolean;
  /** Whether every zero is said to be 8. */
  readonly symmetric: boolean;
}

/** A matrix of 4-bit weights. Its rows are in the order of the outputs, its columns in that of the groups. */
export interface Int4Tensor extends TensorInfo {
  readonly scheme: Int4Scheme;
  readonly inputs: number;
  readonly order: ColumnOrder;
  readonly weights: SafetensorsTensor;
  readonly zeros: SafetensorsTensor;
  readonly scales: SafetensorsTensor;
}

/** The 4-bit matrices of a model under GGUF's names, and the names of all tensors that they are made of. */
export interface Int4Tensors {
  readonly tensors: ReadonlyMap<string, Int4Tensor>;
  readonly parts: ReadonlySet<string>;
}

/** Whether a tensor of this name is the weights of a matrix in 4 bits. */
export const isInt4Weights = (name: string): boolean => name.endsWith(".qweight");

/**
 * Finds and checks the matrices that are stored in 4 bits: those of which there is a `qweight`. Of their tensors, zeros
 * and the inputs' groups are read.
 *
 * @param wanted the tensors of the forward pass
 * @param nameOf their names in the files, which end in ".weight"
 * @throws CriaFileError that names the tensor: ERR_CRIA_FILE where one is missing, of another shape or type, or where a
 *   group is none of the matrix's, ERR_CRIA_UNSUPPORTED for biases, and for scales that binary16 would round
 */
export async function placeInt4(
  stored: ReadonlyMap<string, SafetensorsTensor>,
  scheme: Int4Scheme,
  wanted: readonly LlamaTensor[],
  nameOf: (name: string) => string,
): Promise<Int4Tensors> {
  const tensors = new Map<string, Int4Tensor>();
  const parts = new Set<string>();
  const orders = new ColumnOrders();
  for (const tensor of wanted) {
    const base = nameOf(tensor.name).slice(0, -".weight".length);
    if (tensor.kind === "vector" || !stored.has(`${base}.qweight`)) continue;
    tensors.set(tensor.name, await placeMatrix(new Parts(stored, base, parts), scheme, tensor, orders));
  }
  return { tensors, parts };
}

/** The tensors of one matrix, by the endings of their names. */
class Parts {
  readonly #stored: ReadonlyMap<string, SafetensorsTensor>;
  readonly #base: string;
  readonly #taken: Set<string>;

  constructor(stored: ReadonlyMap<string, SafetensorsTensor>, base: string, taken: Set<string>) {
    this.#stored = stored;
    this.#base = base;
    this.#taken = taken;
  }

  has(part: string): boolean {
    return this.#stored.has(`${this.#base}.${part}`);
  }

  /** Eight numbers stand in an int32, and none is left over. */
  checkEights(...counts: number[]): void {
    const wrong = counts.find((count) => count % 8 !== 0);
    if (wrong === undefined) return;
    const { file, name } = this.#stored.get(`${this.#base}.qweight`)!;
    throw new CriaFileError(file, name, `must be of a multiple of 8 outputs and inputs, not of ${wrong}`);
  }

  /** The one of that shape, which is of one of those types. */
  get(part: string, shape: readonly number[], types: readonly SafetensorsType[] = ["I32"]): SafetensorsTensor {
    const name = `${this.#base}.${part}`;
    const { file } = this.#stored.get(`${this.#base}.qweight`)!;
    const tensor = required(this.#stored.get(name), file, name, shape);
    if (!types.includes(tensor.dtype)) {
      throw new CriaFileError(tensor.file, name, `must be of type ${types.join(" or ")}, not ${tensor.dtype}`);
    }
    this.#taken.add(name);
    return tensor;
  }
}

/** The types that scales have. */
const scaleTypes = ["F16", "BF16", "F32"] as const;

async function placeMatrix(
  parts: Parts,
  scheme: Int4Scheme,
  { name, rows: outputs, cols: inputs }: LlamaTensor,
  orders: ColumnOrders,
): Promise<Int4Tensor> {
  const groups = scheme.groupSize === undefined ? 1 : Math.ceil(inputs / scheme.groupSize);
  parts.checkEights(outputs, scheme.layout === "gptq" ? inputs : 0);
  const weights = parts.get("qweight", scheme.layout === "gptq" ? [inputs / 8, outputs] : [inputs, outputs / 8]);
  const zeros = parts.get("qzeros", [groups, outputs / 8]);
  const scales = parts.get("scales", [groups, outputs], scaleTypes);
  if (scales.dtype !== "F16") await checkScales(scales);
  if (parts.has("bias")) await checkBias(parts.get("bias", [outputs], scaleTypes));
  const order = orders.of(await groupsOfInputs(parts, scheme, inputs, groups), groups);
  const kind = await zerosOf(zeros, scheme);
  return {
    name,
    rows: outputs,
    cols: order.columns.length,
    ...(order.inOrder ? {} : { columns: order.columns }),
    ...kind,
    inputs,
    order,
    weights,
    zeros,
    scales,
  };
}

/** The group of each input: those that a `g_idx` tells, else one after another. */
async function groupsOfInputs(parts: Parts, scheme: Int4Scheme, inputs: number, groups: number): Promise<Int32Array> {
  if (scheme.layout !== "gptq" || !parts.has("g_idx")) return groupsOf(inputs, scheme.groupSize ?? inputs);
  const tensor = parts.get("g_idx", [inputs]);
  const of = int32s(await readTensor(tensor));
  const wrong = of.findIndex((group) => group < 0 || group >= groups);
  if (wrong === -1) return of;
  const problem = `its element ${wrong} must be one of the ${groups} groups, not ${of[wrong]}`;
  throw new CriaFileError(tensor.file, tensor.name, problem);
}

/**
 * The weights' type, which is q4_0 where every zero is 8: that is what it is made for. There are quantisers that store
 * 8 as itself where the format would have it less one; of symmetric weights, whose zeros can be nothing else, it is
 * known.
 */
async function zerosOf(tensor: SafetensorsTensor, scheme: Int4Scheme): Promise<Pick<Int4Tensor, "type" | "scheme">> {
  const words = int32s(await readTensor(tensor));
  const all = (digit: number) => words.every((word) => word >>> 0 === digit * 0x11111111);
  if (all(scheme.zerosLessOne ? 7 : 8)) return { type: "q4_0", scheme };
  if (scheme.symmetric && all(8)) return { type: "q4_0", scheme: { ...scheme, zerosLessOne: false } };
  return { type: "q4_z", scheme };
}

async function checkScales(tensor: SafetensorsTensor): Promise<void> {
  if (halvesOf(await readTensor(tensor), tensor.dtype) !== undefined) return;
  const problem = `must be of type F16, or of values that it can hold, not of ${tensor.dtype} and others`;
  throw new CriaFileError(tensor.file, tensor.name, problem, "ERR_CRIA_UNSUPPORTED");
}

/** Biases that are none: AutoGPTQ writes zeros where a model has no bias. */
async function checkBias(tensor: SafetensorsTensor): Promise<void> {
  const bytes = await readTensor(tensor);
  if (bytes.every((byte) => byte === 0)) return;
  throw new CriaFileError(tensor.file, tensor.name, "must be zeros, for a LLaMA has no biases", "ERR_CRIA_UNSUPPORTED");
}

/** A tensor's bytes, at the beginning of an array buffer of their own. */
const readTensor = (tensor: SafetensorsTensor): Promise<Uint8Array> =>
  readFrom(tensor.file, tensor.name, (fd) => readRange(fd, tensor.file, tensor));

const int32s = ({ buffer, byteOffset, byteLength }: Uint8Array) => new Int32Array(buffer, byteOffset, byteLength / 4);

const isInt4 = (info: FileTensor | Int4Tensor): info is Int4Tensor => "order" in info;

/** Weights in files, of which some are 4-bit matrices: these are read whole, one at a time, and packed natively. */
export function int4Source(tensors: ReadonlyMap<string, FileTensor | Int4Tensor>): WeightSource & Disposable {
  const files = [...tensors].filter((entry): entry is [string, FileTensor] => !isInt4(entry[1]));
  const plain = fileSource(new Map(files));
  const room = new Room();
  return {
    tensors,
    pack: async (info, into, row) => {
      const tensor = tensors.get(info.name)!;
      if (!isInt4(tensor)) return plain.pack(info, into, row);
      const { scheme, inputs, rows, order, weights, zeros, scales } = tensor;
      room.clear(weights.bytes + zeros.bytes + scales.bytes);
      const matrix = {
        layout: scheme.layout,
        zerosLessOne: scheme.zerosLessOne,
        inputs,
        outputs: rows,
        groups: scales.shape[0]!,
        weights: int32s(await room.read(weights)),
        zeros: int32s(await room.read(zeros)),
        scales: scalesOf(await room.read(scales), scales),
        columns: order.columns,
        columnGroups: order.columnGroups,
      };
      try {
        await native.tensorPackInt4(into, row, matrix);
      } catch (error) {
        throw naming(error, weights.file, info.name);
      }
    },
    // Of floats, which the 4-bit matrices are not.
    convert: (info, into, row) => plain.convert!(info, into, row),
    [Symbol.dispose]: () => room.clear(0),
  };
}

/** The scales were checked; where they are others now, somebody writes to the file. */
function scalesOf(bytes: Uint8Array, { file, name, dtype }: SafetensorsTensor): Uint16Array {
  const halves = halvesOf(bytes, dtype);
  if (halves === undefined) throw new CriaFileError(file, name, "was written to while it was read");
  return halves;
}

/** Memory that tensors are read into, one behind another: it is taken once for the largest matrix, and not for each. */
class Room {
  #bytes = new Uint8Array(0);
  #used = 0;

  /** Makes room for as many bytes; without any, gives the memory back. */
  clear(bytes: number): void {
    this.#used = 0;
    if (bytes > this.#bytes.length || bytes === 0) this.#bytes = new Uint8Array(bytes);
  }

  async read({ file, name, offset, bytes }: SafetensorsTensor): Promise<Uint8Array> {
    const into = this.#bytes.subarray(this.#used, this.#used + bytes);
    this.#used += bytes;
    try {
      await using files = await OpenFiles.open([file]);
      await files.read(0, into, offset);
    } catch (error) {
      throw naming(error, file, name);
    }
    return into;
  }
}
