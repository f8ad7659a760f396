import type { DeviceKind, Isa } from "../device.js";
import { CriaError } from "../errors.js";
import type { ModelOptions } from "../model.js";
import type { CacheType } from "../native.js";
import { type Arguments, given } from "./arguments.js";
import { type Io, Progress } from "./io.js";

/** What every command that runs a model takes. */
export const runningOptions = {
  threads: { value: "N", help: "threads that compute; the physical cores that it may use by default" },
  isa: { value: "scalar|avx2|avx512", help: "the kernels' instruction set; the best by default" },
  device: { value: "auto|cpu|cuda", help: "where to compute, cuda not yet; auto by default" },
  cache: { value: "f32|f16|q8_0", help: "the type of cached keys and values, q8_0 not yet; f16 by default" },
} as const;

/**
 * Loads a model as the command line asks for it, with progress and warnings for people. Ctrl-C ends the loading, and
 * whatever else heeds `io.signal`.
 *
 * @param load loads it with the options; those that are wrong, it refuses
 */
export async function loadWith<Model>(
  args: Arguments<keyof typeof runningOptions>,
  io: Io,
  load: (options: ModelOptions) => Promise<Model>,
): Promise<Model> {
  const options = optionsOf(args);
  io.catchInterrupts();
  using progress = new Progress(io.stderr, "loading");
  return await load({
    ...options,
    signal: io.signal,
    onProgress: (loaded, total) => progress.update(loaded, total),
    onWarning: (message) => io.stderr.write(`cria: warning: ${message}\n`),
  });
}

/** The library checks them, and names the argument that is wrong. */
function optionsOf(args: Arguments<keyof typeof runningOptions>): ModelOptions {
  const cache = args.text("cache");
  if (cache === "q8_0") throw new CriaError("ERR_CRIA_UNSUPPORTED", "--cache: must be f16 or f32, not yet q8_0");
  return given({
    threads: args.integer("threads"),
    isa: args.text("isa") as Isa | undefined,
    device: args.text("device") as DeviceKind | "auto" | undefined,
    cache: cache as CacheType | undefined,
  });
}
