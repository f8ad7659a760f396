import type { Device, Isa, LimitKind } from "../lib/device.js";
import { CriaError } from "../lib/errors.js";
import { type WeightType, weightFormats } from "../lib/weights/source.js";
import type { Limits } from "./schema.js";
import { best } from "./statistics.js";

/** Of each limit, the best of which is taken. Those of an instruction take some milliseconds each. */
const samples = { memory: 5, instruction: 15 };

/** What the machine does at best on the device's threads; null for an instruction that it, or the device's set, lacks. */
export async function limitsOf(device: Device): Promise<Limits> {
  return {
    readGBs: best(await readGBs(device)),
    copyGBs: best(await device.measureLimit("copy", samples.memory)) / 1e9,
    fmaGflops: await peak(device, "fma"),
    maddubsGops: await peak(device, "maddubs"),
    dpbusdGops: await peak(device, "dpbusd"),
    bf16dotGflops: await peak(device, "bf16dot"),
  };
}

/** Plain passes over memory, in GB/s: five, of which the best judges what is read from it. */
export async function readGBs(device: Device): Promise<number[]> {
  return (await device.measureLimit("read", samples.memory)).map((rate) => rate / 1e9);
}

async function peak(device: Device, limit: LimitKind): Promise<number | null> {
  try {
    return best(await device.measureLimit(limit, samples.instruction)) / 1e9;
  } catch (error) {
    if (error instanceof CriaError && error.code === "ERR_CRIA_UNSUPPORTED") return null;
    throw error;
  }
}

/**
 * The better of two measurements, limit by limit: another's work on the machine only ever lowers them, and what one
 * instruction set's run lacks another's may have.
 */
export function betterOf(a: Limits, b: Limits): Limits {
  const names = Object.keys(a) as (keyof Limits)[];
  return Object.fromEntries(names.map((name) => [name, better(a[name] ?? null, b[name] ?? null)])) as unknown as Limits;
}

function better(one: number | null, other: number | null): number | null {
  return one === null ? other : other === null ? one : Math.max(one, other);
}

/** The limits of a run in which memory was read at these rates too, in GB/s. */
export const withReads = (limits: Limits, rates: readonly number[]): Limits => ({
  ...limits,
  readGBs: best([limits.readGBs, ...rates]),
});

/** What a product's operations are done with: int8's by the instruction that the kernels have for them, floats' by fma. */
export type Multiplier = "int8" | "fma";

export const multiplierOf = (format: WeightType): Multiplier => (weightFormats[format].block > 1 ? "int8" : "fma");

/** The peak of that in an instruction set's kernels, in 10⁹ operations a second. */
export function peakOf(isa: Isa, multiplier: Multiplier, limits: Limits): number | null {
  if (multiplier === "fma") return limits.fmaGflops;
  return isa === "avx512" ? limits.dpbusdGops : limits.maddubsGops;
}
