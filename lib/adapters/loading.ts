/** The adapters that a model is loaded with. */
import { unaborted } from "../abort.js";
import type { Device } from "../device.js";
import { wrongArgument } from "../errors.js";
import type { LlamaConfig } from "../weights/source.js";
import type { ModelFile } from "../weights/store.js";
import { readAdapter } from "./adapter.js";
import { type AdapterFile, adapterBytes, checkAdapterFits, outlineOf, readAdapterFile } from "./adapter-file.js";
import type { AdapterSet, Change } from "./adapter-set.js";
import type { ScaledParts } from "./beside.js";
import { checkMergeable } from "./merge.js";
import { type AdapterOption, type AppliedAdapter, adapterOptions } from "./options.js";
import { packedRoom } from "./room.js";

/** Of a model's options. */
export interface LoadedAdapters {
  adapters?: readonly AdapterOption[] | undefined;
  mergeAdapters?: boolean | undefined;
}

/** An adapter that a model is loaded with. */
export interface WantedAdapter {
  readonly file: AdapterFile;
  readonly scale: number;
}

/**
 * Reads the indexes of the adapters that a model is to be loaded with.
 *
 * @throws TypeError or RangeError for a wrong option
 * @throws CriaFileError where one is no adapter, for another model, or not to be merged into this one
 */
export async function readAdapterFiles(
  index: ModelFile,
  { adapters, mergeAdapters }: LoadedAdapters,
): Promise<WantedAdapter[]> {
  if (mergeAdapters && adapters === undefined) {
    throw wrongArgument("mergeAdapters: must come with adapters, which may be none: []");
  }
  const wanted: WantedAdapter[] = [];
  for (const { path, scale, ...options } of adapterOptions(adapters)) {
    const file = await readAdapterFile(path, options);
    checkAdapterFits(file, index.config);
    wanted.push({ file, scale });
  }
  if (mergeAdapters)
    checkMergeable(
      index,
      wanted.map(({ file }) => file),
    );
  return wanted;
}

/** The bytes of the device's memory that adapters will take that are set; a CPU's is that of JavaScript too. */
export function roomBeside(wanted: readonly WantedAdapter[], config: LlamaConfig, { info }: Device): number {
  const outlines = wanted.filter(({ scale }) => scale !== 0).map(({ file }) => outlineOf(file, config));
  const packed = packedRoom(config, info.kind, outlines);
  if (info.kind !== "cpu") return packed.device;
  return packed.device + packed.host + wanted.reduce((sum, { file }) => sum + adapterBytes(file), 0);
}

/**
 * Reads what they add, for it to be merged.
 *
 * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it, between two adapters
 */
export async function readAdapters(
  wanted: readonly WantedAdapter[],
  config: LlamaConfig,
  device: Device,
  signal: AbortSignal | undefined,
) {
  const read: (ScaledParts & Change)[] = [];
  for (const { file, scale } of wanted.filter(({ scale }) => scale !== 0)) {
    unaborted("the loading", signal);
    const { parts, fingerprint } = await readAdapter(file, config, device);
    read.push({ ...parts, fingerprint, scale });
  }
  return read;
}

/**
 * Sets those that the model is loaded with.
 *
 * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it, between two adapters
 */
export async function setFirst(
  adapters: AdapterSet,
  wanted: readonly WantedAdapter[],
  signal: AbortSignal | undefined,
): Promise<void> {
  if (wanted.length === 0) return;
  const applied: AppliedAdapter[] = [];
  for (const { file, scale } of wanted) {
    unaborted("the loading", signal);
    applied.push({ adapter: await adapters.read(file), scale });
  }
  unaborted("the loading", signal);
  await adapters.set(applied);
}
