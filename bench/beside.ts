/** Cria beside a peer, on the same weights: those of a file, or random ones that are written to one. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { cacheTypesOf } from "../lib/cache-types.js";
import { Device } from "../lib/device.js";
import { outOfRange } from "../lib/errors.js";
import { isPacked } from "../lib/weights/model-file.js";
import { writeGguf } from "./gguf-file.js";
import { betterOf, limitsOf } from "./limits.js";
import { cpuOf } from "./machine.js";
import { alternate, peerResults, ratios } from "./peers/alternate.js";
import type { OpenPeer, PeerWork } from "./peers/peer.js";
import type { Report } from "./schema.js";
import { shapeOf } from "./shapes.js";
import { randomWeights } from "./synthetic.js";
import { limitsBeside, measureTokens, scattered, TokensBench, type TokensOptions, withDefaults } from "./tokens.js";

/** More than cria alone is given, for a ratio has the noise of both. */
const rounds = { least: 5, most: 9, seconds: 60 };

type Measured = Pick<Report, "limits" | "results" | "ratios">;

/**
 * Measures cria, and in turn with it a peer, where there is one.
 *
 * @param gguf where random weights are written, that they may be run elsewhere too
 */
export async function measureBeside(
  openPeer: OpenPeer | undefined,
  gguf: string | undefined,
  options: TokensOptions,
): Promise<Measured> {
  if (gguf !== undefined && options.model !== undefined) {
    throw outOfRange("writeGguf", "left out where there is a model's file", gguf);
  }
  if (openPeer !== undefined && withDefaults(options).sequences !== 1) {
    throw outOfRange("sequences", "1 beside a peer", options.sequences);
  }
  if (openPeer !== undefined && options.model !== undefined && (await isPacked(options.model))) {
    throw outOfRange("model", "a GGUF file beside a peer, which reads no packed one", options.model);
  }
  const measure = (path: string, files: TokensOptions) =>
    openPeer === undefined ? measureTokens(files) : measureWith(openPeer, path, files);

  if (options.model !== undefined) return await measure(options.model, options);
  if (gguf === undefined && openPeer === undefined) return await measureTokens(options);
  await using folder = gguf === undefined ? await temporaryFolder() : undefined;
  const path = gguf ?? join(folder!.path, "weights.gguf");
  await writeRandom(path, options);
  return await measure(path, { ...options, model: path, name: options.shape });
}

async function measureWith(openPeer: OpenPeer, path: string, options: TokensOptions): Promise<Measured> {
  using bench = await TokensBench.open(options);
  await using peer = await openPeer(workOf(bench, path, options));
  await bench.warmUp();
  const before = await limitsOf(bench.device);
  const [measured, beside] = await alternate([bench, peer] as const, rounds, options.signal);
  const limits = limitsBeside(betterOf(before, await limitsOf(bench.device)), measured);
  const ours = bench.results(measured, limits);
  const theirs = peerResults(ours, peer, beside, bench.modelBytes);
  return { limits, results: [...ours, ...theirs], ratios: ratios(ours, theirs) };
}

function workOf({ device, config }: TokensBench, model: string, options: TokensOptions): PeerWork {
  const { prompt, gen, context } = withDefaults(options);
  const { signal } = options;
  const cache = cacheTypesOf(options.cache);
  const tokens = Int32Array.from({ length: Math.max(prompt, context + gen) }, (_, i) => scattered(i, config));
  return { model, threads: cpuOf(device).threads, cache, tokens, prompt, context, gen, ...(signal && { signal }) };
}

async function writeRandom(path: string, options: TokensOptions): Promise<void> {
  const { shape, format } = options;
  const { config, tied } = shapeOf(shape);
  using device = new Device(options);
  const name = `${shape} ${format}, random weights`;
  await writeGguf(path, { name, config, source: randomWeights(config, format, tied) }, device, options);
}

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "cria-bench-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
