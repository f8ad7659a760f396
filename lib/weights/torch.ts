/**
 * The tensors of a file that torch.save wrote (torch/serialization.py, since version 1.6): a zip archive of
 *
 *     NAME/data.pkl     a pickle of a dictionary: for each tensor its name, storage, offset, shape and strides
 *     NAME/data/KEY     the elements of the storage KEY, as they are
 *     NAME/byteorder    "little" or "big"; little where there is none
 *     NAME/version      of the archive's format
 */
import { CriaFileError, show } from "../errors.js";
import { readRange } from "../files.js";
import { readFrom } from "./open.js";
import { type Fail, readPickle } from "./pickle.js";
import { type StoredTensor, showShape } from "./stored-tensor.js";
import { beginsAsZip, readZip, type ZipEntry } from "./zip.js";

/** A tensor whose elements are little-endian, row-major. The range was checked against its storage. */
export interface TorchTensor extends StoredTensor {
  readonly type: TorchType;
}

export type TorchType = "f32" | "f16" | "bf16";

/** By the names of the storages' classes the types of their elements, of those that hold weights. */
const storageTypes: Readonly<Record<string, TorchType>> = {
  FloatStorage: "f32",
  HalfStorage: "f16",
  BFloat16Storage: "bf16",
};

/** Where torch has these classes. */
const storageModules = ["torch", "torch.storage"] as const;

const elementBytes: Readonly<Record<TorchType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** The largest in use, of a LLaMA of 126 layers, takes less than 1 MB. */
const mostPickleBytes = 8 * 2 ** 20;

/** LLaMA's have two. */
const mostDimensions = 8;

/**
 * Reads the index of a file of tensors. Weights are not read.
 *
 * @param subject what of a model the file is, for errors
 * @returns the tensors by name, in the file's order
 * @throws CriaFileError ERR_CRIA_FILE for a file that cannot be read or is damaged, ERR_CRIA_UNSUPPORTED for one that
 *   holds anything but tensors of floats, by name
 */
export function readTorch(path: string, subject?: string): Promise<Map<string, TorchTensor>> {
  return readFrom(path, subject, (fd, size) => {
    if (!beginsAsZip(fd)) {
      throw new CriaFileError(
        path,
        subject,
        "must begin as a zip archive, which torch.save writes since its version 1.6",
      );
    }
    const entries = readZip(fd, path, size);
    const read = (entry: ZipEntry) => readRange(fd, path, entry);
    const root = rootOf(path, entries);
    checkByteOrder(path, root, entries, read);
    const pickle = entries.get(`${root}/data.pkl`)!;
    if (pickle.bytes > mostPickleBytes) {
      throw new CriaFileError(path, pickle.name, `must be of at most ${mostPickleBytes} bytes, not ${pickle.bytes}`);
    }
    return readTensors(path, root, entries, read(pickle));
  });
}

/** The folder of the archive that all its entries are in. */
function rootOf(path: string, entries: ReadonlyMap<string, ZipEntry>): string {
  const roots = [...entries.keys()].flatMap((name) => /^([^/]+)\/data\.pkl$/.exec(name)?.[1] ?? []);
  if (roots.length === 1) return roots[0]!;
  throw new CriaFileError(
    path,
    undefined,
    `must be a file that torch.save wrote, with one data.pkl, not ${roots.length}`,
  );
}

function checkByteOrder(
  path: string,
  root: string,
  entries: ReadonlyMap<string, ZipEntry>,
  read: (entry: ZipEntry) => Buffer,
): void {
  const entry = entries.get(`${root}/byteorder`);
  if (entry === undefined) return;
  const fail = (problem: string, code?: "ERR_CRIA_UNSUPPORTED") => new CriaFileError(path, entry.name, problem, code);
  if (entry.bytes > "little".length) throw fail(`must be "little" or "big", not ${entry.bytes} bytes`);
  const order = read(entry).toString("latin1");
  if (order === "big")
    throw fail("must be a file of little-endian numbers, not of big-endian ones", "ERR_CRIA_UNSUPPORTED");
  if (order !== "little") throw fail(`must be "little" or "big", not ${show(order)}`);
}

/** The elements that some tensors are made of. */
class Storage {
  constructor(
    readonly type: TorchType,
    readonly offset: number,
    /** How many there are. */
    readonly length: number,
  ) {}
}

/** A part of a storage, which is a tensor once it has a name. */
class View {
  constructor(
    readonly storage: Storage,
    readonly begin: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

function readTensors(
  path: string,
  root: string,
  entries: ReadonlyMap<string, ZipEntry>,
  pickle: Buffer,
): Map<string, TorchTensor> {
  const fail: Fail = (problem, code) => new CriaFileError(path, `${root}/data.pkl`, problem, code);
  const world = {
    globals: knownGlobals(fail),
    persistent: (id: unknown) => storageOf(id, (key) => entries.get(`${root}/data/${key}`), fail),
  };
  const dictionary = readPickle(pickle, world, fail);
  if (!(dictionary instanceof Map)) throw fail("must hold a dictionary of tensors");
  const tensors = new Map<string, TorchTensor>();
  for (const [name, view] of dictionary as Map<string, unknown>) {
    if (!(view instanceof View)) throw new CriaFileError(path, name, "must be a tensor", "ERR_CRIA_UNSUPPORTED");
    tensors.set(name, placed(path, name, view));
  }
  return tensors;
}

/** All that a pickle may name. */
function knownGlobals(fail: Fail): Map<string, unknown> {
  const globals = new Map<string, unknown>([
    ["collections.OrderedDict", (args: readonly unknown[]) => emptyDictionary(args, fail)],
    ["torch._utils._rebuild_tensor_v2", (args: readonly unknown[]) => rebuild(args, fail)],
  ]);
  for (const module of storageModules) {
    for (const [name, type] of Object.entries(storageTypes)) globals.set(`${module}.${name}`, new StorageType(type));
  }
  return globals;
}

class StorageType {
  constructor(readonly type: TorchType) {}
}

function emptyDictionary(args: readonly unknown[], fail: Fail): Map<string, unknown> {
  if (args.length === 0) return new Map();
  throw fail("must make an OrderedDict without arguments");
}

/** torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, [metadata]) */
function rebuild(args: readonly unknown[], fail: Fail): View {
  const [storage, begin, shape, strides] = args;
  if (!(storage instanceof Storage)) throw fail("must make a tensor of a storage");
  if (!isSize(begin) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
    throw fail("must make a tensor of an offset, a shape and as many strides");
  }
  return new View(storage, begin, shape, strides);
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length <= mostDimensions && value.every(isSize);

/**
 * The storage of a persistent id: ("storage", class, key, location, number of elements). Where it was does not matter.
 */
function storageOf(id: unknown, entryOf: (key: string) => ZipEntry | undefined, fail: Fail): Storage {
  const [kind, type, key, , length] = Array.isArray(id) ? id : [];
  if (kind !== "storage" || !(type instanceof StorageType) || typeof key !== "string" || !isSize(length)) {
    throw fail("must have persistent ids that are of storages of floats");
  }
  const entry = entryOf(key);
  if (entry === undefined) throw fail(`must name a storage that the archive has, not ${show(`data/${key}`)}`);
  const bytes = BigInt(length) * BigInt(elementBytes[type.type]);
  if (bytes !== BigInt(entry.bytes)) {
    throw fail(`its storage data/${key} must have ${bytes} bytes, for ${length} ${type.type}, not ${entry.bytes}`);
  }
  return new Storage(type.type, entry.offset, length);
}

function placed(path: string, name: string, { storage, begin, shape, strides }: View): TorchTensor {
  const fail: Fail = (problem, code) => new CriaFileError(path, name, problem, code);
  const elements = shape.reduce((product, n) => product * BigInt(n), 1n);
  const shown = showShape(shape);
  if (elements === 0n) throw fail(`its dimensions must be positive, not ${shown}`);
  if (BigInt(begin) + elements > storage.length) {
    throw fail(`its ${shown} elements from ${begin} on must lie within the ${storage.length} of its storage`);
  }
  if (!isRowMajor(shape, strides)) {
    throw fail(`must stand row after row, not ${shown} with strides ${showShape(strides)}`, "ERR_CRIA_UNSUPPORTED");
  }
  const width = elementBytes[storage.type];
  const bytes = Number(elements) * width;
  return { name, type: storage.type, shape, file: path, offset: storage.offset + begin * width, bytes };
}

/** A dimension of one element has a stride that nothing depends on. */
function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}
