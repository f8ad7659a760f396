import { createHash } from "node:crypto";

import { CriaError } from "../errors.js";
import type { Complete } from "../options.js";
import type { Runtime } from "../runtime.js";
import { type Adapter, readAdapter } from "./adapter.js";
import {
  type AdapterFile,
  adapterBytes,
  checkAdapterFits,
  checkAdapterRuns,
  outlineOf,
  readAdapterFile,
} from "./adapter-file.js";
import { packAdapters } from "./beside.js";
import { type AppliedAdapter, appliedAdapters, checkOnePrefix } from "./options.js";
import type { PrefixOptions } from "./prefix-file.js";
import { checkRoom, packedRoom, sumOfRooms } from "./room.js";

/** What tells one adapter that changes a model, and how much of it, from others. */
export interface Change {
  readonly fingerprint: Uint8Array;
  readonly scale: number;
}

/** A model's adapters: those that were loaded for it, and those that are set. */
export class AdapterSet {
  readonly #runtime: Runtime;
  readonly #merged: readonly Change[];
  readonly #known = new WeakSet<Adapter>();
  #applied: readonly Complete<AppliedAdapter>[] = [];
  #changes: readonly Change[];
  #last: Promise<unknown> = Promise.resolve();

  /** @param merged those that the weights have in them */
  constructor(runtime: Runtime, merged: readonly Change[]) {
    this.#runtime = runtime;
    this.#merged = merged;
    this.#changes = merged;
  }

  /** Those that are set, whatever their scale. */
  get applied(): readonly Complete<AppliedAdapter>[] {
    return this.#applied;
  }

  /**
   * @throws CriaFileError as {@link readAdapterFile}, {@link readAdapter} and {@link checkAdapterRuns}
   * @throws CriaError ERR_CRIA_MEMORY where there is not the memory to have it, or to set it alone
   */
  async load(path: string, options: Complete<PrefixOptions>): Promise<Adapter> {
    const file = await readAdapterFile(path, options);
    const { config, device } = this.#runtime;
    checkAdapterFits(file, config);
    checkAdapterRuns(file, device);
    const packed = packedRoom(config, device.info.kind, [outlineOf(file, config)]);
    checkRoom(path, sumOfRooms({ host: adapterBytes(file), device: 0 }, packed), device);
    return await this.read(file);
  }

  /** The same of a file whose index was read. */
  async read(file: AdapterFile): Promise<Adapter> {
    const { config, device } = this.#runtime;
    const adapter = await readAdapter(file, config, device);
    this.#known.add(adapter);
    return adapter;
  }

  /**
   * Sets adapters instead of those that are set, after all that were asked for before.
   *
   * @throws TypeError or RangeError for a wrong one
   * @throws CriaError ERR_CRIA_STATE as {@link Runtime.adapt}, ERR_CRIA_MEMORY where there is not the memory; those
   *   that were set are then set still
   */
  set(adapters: readonly AppliedAdapter[]): Promise<void> {
    const applied = appliedAdapters(adapters, (adapter) => this.#known.has(adapter));
    const result = this.#last.then(() => this.#set(applied));
    this.#last = result.catch((_: CriaError) => undefined);
    return result;
  }

  async #set(applied: readonly Complete<AppliedAdapter>[]): Promise<void> {
    const { device, config, weights, scheduler } = this.#runtime;
    scheduler.requireRepeatable(); // before the work, and again after it
    // With a scale of 0 the bits are those without it.
    const used = applied.filter(({ scale }) => scale !== 0);
    const scaled = used.map(({ adapter, scale }) => ({ ...adapter.parts, scale }));
    checkOnePrefix(scaled.filter(({ prefix }) => prefix.size > 0).length);
    checkRoom("adapters", packedRoom(config, device.info.kind, scaled), device);
    using packed = scaled.length > 0 ? await packAdapters(device, config, weights, scaled) : undefined;
    if (this.#runtime.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "model: was disposed");
    this.#runtime.adapt(packed);
    this.#applied = applied;
    this.#changes = [...this.#merged, ...used.map(({ adapter: { fingerprint }, scale }) => ({ fingerprint, scale }))];
  }

  /** What the fingerprint of the model's weights becomes with the adapters: where there are none, it stays. */
  fingerprint(weights: Uint8Array): Uint8Array {
    if (this.#changes.length === 0) return weights;
    const hash = createHash("sha256").update(weights);
    for (const { fingerprint, scale } of this.#changes) hash.update(fingerprint).update(JSON.stringify(scale));
    return hash.digest();
  }
}
