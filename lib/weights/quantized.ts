import { CriaFileError, outOfRange, wrongType } from "../errors.js";
import type { Fallback } from "./fallbacks.js";
import { isFloatType, type QuantisedType, type TensorInfo, type WeightType, weightFormats } from "./source.js";
import { type ModelFile, namingNumbers, type WeightSource } from "./store.js";

/** What float matrices can become. q4_z is for zero points that others chose: without any it is a larger q4_0. */
export type LoadedType = Exclude<QuantisedType, "q4_z">;

/** What matrices can become while they are loaded. */
export const quantisedTypes = (Object.keys(weightFormats) as WeightType[]).filter(
  (type): type is LoadedType => !isFloatType(type) && type !== "q4_z",
);

/**
 * What a type gives way to where rows are no whole number of its blocks: of those with blocks of 32 the one with the
 * bits of a superblock's type, or a little more, as llama.cpp does it.
 */
const fallbacks: Partial<Record<LoadedType, LoadedType>> = {
  q2_K: "iq4_nl",
  q3_K: "iq4_nl",
  q4_K: "q5_0",
  q5_K: "q5_1",
  q6_K: "q8_0",
};

/** The type in which rows of `cols` weights are kept where `type` is asked for; undefined where it can be none. */
export function quantisedTypeFor(type: LoadedType, cols: number): LoadedType | undefined {
  const fits = (candidate: LoadedType) => cols % weightFormats[candidate].block === 0;
  if (fits(type)) return type;
  const other = fallbacks[type];
  return other !== undefined && fits(other) ? other : undefined;
}

/** Checks the option that asks for it. @throws TypeError or RangeError where it is given, and no quantised type */
export function optionalQuantisedType(quantize: LoadedType | undefined): LoadedType | undefined {
  if (quantize === undefined) return undefined;
  if (typeof quantize !== "string") throw wrongType("quantize", "a string", quantize);
  if (!quantisedTypes.includes(quantize)) throw outOfRange("quantize", `one of ${quantisedTypes.join(", ")}`, quantize);
  return quantize;
}

/**
 * A model whose float matrices become quantised ones while they are loaded, row by row. Vectors stay, and so do
 * matrices that are quantised already, and those whose rows are no whole number of blocks, neither of the type nor of
 * what it gives way to: these, and those that become the latter, are its `fallbacks`.
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED for a packed file of float matrices
 */
export function quantised(model: ModelFile, type: LoadedType): ModelFile {
  const tensors = new Map([...model.tensors].map(([name, info]) => [name, { ...info, type: typeOf(info, type) }]));
  const fallbacks = fallbacksOf(model, tensors, type);
  const changed = [...tensors.values()].some((info) => info.type !== model.tensors.get(info.name)!.type);
  if (!changed) return { ...model, fallbacks };
  if (model.mappable) throw unconvertible(model.path, "a packed file");
  return { ...model, tensors, fallbacks, source: (options) => quantising(model.path, tensors, model.source(options)) };
}

/** What was of floats, and did not become `wanted`. */
const fallbacksOf = (model: ModelFile, tensors: ReadonlyMap<string, TensorInfo>, wanted: LoadedType): Fallback[] =>
  [...tensors.values()]
    .filter(({ name, type, rows }) => rows > 1 && type !== wanted && isFloatType(model.tensors.get(name)!.type))
    .map(({ name, type, cols }) => ({ name, wanted, type, cols }));

const unconvertible = (path: string, what: string): CriaFileError =>
  new CriaFileError(path, "quantize", `must be left out for ${what}, whose weights stay`, "ERR_CRIA_UNSUPPORTED");

/** A vector is a matrix of one row, which no LLaMA's is. */
function typeOf({ type, rows, cols }: TensorInfo, wanted: LoadedType): WeightType {
  if (rows === 1 || !isFloatType(type)) return type;
  return quantisedTypeFor(wanted, cols) ?? type;
}

function quantising(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  source: WeightSource & Disposable,
): WeightSource & Disposable {
  if (source.convert === undefined) {
    source[Symbol.dispose]();
    throw unconvertible(path, "a model of this format");
  }
  return {
    tensors,
    pack: async (info, into, row) => {
      const stored = source.tensors.get(info.name)!;
      if (stored.type === info.type) return source.pack(stored, into, row);
      try {
        await source.convert!(stored, into, row);
      } catch (error) {
        throw namingNumbers(error, path, info.name);
      }
    },
    convert: ({ name }, into, row) => source.convert!(source.tensors.get(name)!, into, row),
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}
