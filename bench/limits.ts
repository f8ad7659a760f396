import type { Device } from "../lib/device.js";
import type { WeightType } from "../lib/weights/source.js";
import type { Limits } from "./schema.js";
import { best } from "./statistics.js";

/** What the machine does at best on the device's threads; null for an instruction that it, or the device's set, lacks. */
export async function limitsOf(device: Device): Promise<Limits> {
  return {
    readGBs: best(await readGBs(device)),
    copyGBs: 0,
    fmaGflops: null,
    maddubsGops: null,
    dpbusdGops: null,
    bf16dotGflops: null,
  };
}

/** Plain passes over memory, in GB/s: five, of which the best judges what is read from it. */
export async function readGBs(device: Device): Promise<number[]> {
  return (await device.readBandwidth(2 ** 29, 5)).map((rate) => rate / 1e9);
}

/** The better of two measurements, limit by limit: another's work on the machine only ever lowers them. */
export function betterOf(a: Limits, b: Limits): Limits {
  const better = (name: keyof Limits) => (a[name] === null || b[name] === null ? null : Math.max(a[name], b[name]));
  return Object.fromEntries(Object.keys(a).map((name) => [name, better(name as keyof Limits)])) as unknown as Limits;
}

/** The peak of the instruction that multiplies weights of a format in the device's kernels, in 10⁹ operations a second. */
export function productPeak({ info }: Device, limits: Limits, format: WeightType): number | null {
  if (format !== "q4_0" && format !== "q8_0") return limits.fmaGflops;
  return { scalar: null, avx2: limits.maddubsGops, avx512: limits.dpbusdGops }[info.isa];
}
