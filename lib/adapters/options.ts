import { finite, integer, outOfRange, wrongArgument, wrongType } from "../errors.js";
import { type Complete, optionalFlag, optionsOf } from "../options.js";
import { Adapter } from "./adapter.js";
import { mostPrefix, type PrefixOptions } from "./prefix-file.js";

/** Adapters' options that stand beside a path. */
const fileNames = ["prefixLength", "rawGates"] as const satisfies readonly (keyof PrefixOptions)[];

/** How much of an adapter is added, where that is not said: as much as it was trained with. */
const fullScale = 1;

/** An adapter that a model is loaded with. */
export interface AdapterOption extends PrefixOptions {
  /** A LoRA's GGUF file or folder of PEFT's, or a LLaMA-Adapter's file. */
  path: string;
  /** How much of it is added; a negative one takes away. Default: 1. */
  scale?: number | undefined;
}

/** An adapter that is set. */
export interface AppliedAdapter {
  adapter: Adapter;
  /** How much of it is added; a negative one takes away. Default: 1. */
  scale?: number | undefined;
}

/** @throws TypeError or RangeError where they are no such list */
export function adapterOptions(adapters: readonly AdapterOption[] | undefined): Complete<AdapterOption>[] {
  return listOf(adapters ?? []).map((each, i) => {
    const name = `adapters[${i}]`;
    const { path, scale, ...file } = optionsOf("an adapter", each, ["path", "scale", ...fileNames], name);
    if (typeof path !== "string") throw wrongType(`${name}.path`, "a string", path);
    return { path, scale: scaleOf(name, scale), ...checkedPrefix(file, `${name}.`) };
  });
}

/** @throws TypeError or RangeError for a wrong option of `loadAdapter` */
export const prefixOptions = (options: PrefixOptions): Complete<PrefixOptions> =>
  checkedPrefix(optionsOf("loadAdapter", options, fileNames), "");

function checkedPrefix({ prefixLength = 10, rawGates }: PrefixOptions, of: string): Complete<PrefixOptions> {
  integer(`${of}prefixLength`, prefixLength, 1, mostPrefix);
  return { prefixLength, rawGates: optionalFlag(`${of}rawGates`, rawGates) };
}

/**
 * @param belongs whether an adapter is the model's
 * @throws TypeError or RangeError where they are no such list, or one is another model's
 */
export function appliedAdapters(
  adapters: readonly AppliedAdapter[],
  belongs: (adapter: Adapter) => boolean,
): Complete<AppliedAdapter>[] {
  return listOf(adapters).map((each, i) => {
    const name = `adapters[${i}]`;
    const { adapter, scale } = optionsOf("an adapter", each, ["adapter", "scale"], name);
    if (!(adapter instanceof Adapter)) throw wrongType(`${name}.adapter`, "an adapter of this model", adapter);
    if (!belongs(adapter)) throw wrongArgument(`${name}.adapter: must be one of this model, not of another`);
    return { adapter, scale: scaleOf(name, scale) };
  });
}

function listOf<T>(adapters: readonly T[]): T[] {
  if (!Array.isArray(adapters)) throw wrongType("adapters", "an array", adapters);
  return [...adapters];
}

/** @throws RangeError where there is more than one, for a layer's attention has room for one */
export function checkOnePrefix(prefixes: number): void {
  if (prefixes > 1) throw outOfRange("adapters", "at most one LLaMA-Adapter, beside any number of LoRAs", prefixes);
}

/** Larger ones than any f32 would make infinities of what is added. */
const scaleOf = (name: string, scale: number = fullScale) => finite(`${name}.scale`, scale, -mostScale, mostScale);
const mostScale = 1e6;
