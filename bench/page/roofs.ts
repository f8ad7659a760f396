/** The roofs of a roofline: a slope where memory is the limit, and a level line for each instruction that multiplies. */
import type { Limits } from "../schema.js";
import { figure, isNumber, withUnit } from "./format.js";
import { along, type Box, type Label, type Point, placeLabels } from "./labels.js";
import type { Scale } from "./scale.js";

export interface Roof {
  name: string;
  /** 10⁹ operations a second. */
  gops: number;
  unit: string;
}

/** The peaks that kernels of an instruction set can reach, the highest first: of an unknown one all. */
export function roofsOf(isa: string, limits: Limits): Roof[] {
  const { fmaGflops, maddubsGops, dpbusdGops } = limits;
  const integers = [
    { name: "maddubs", gops: maddubsGops, unit: "GOP/s", of: (set: string) => set !== "avx512" },
    { name: "dpbusd", gops: dpbusdGops, unit: "GOP/s", of: (set: string) => set !== "avx2" && set !== "scalar" },
  ];
  const isGpu = (set: string) => set === "cuda";
  const tensor = [
    { name: "tensor, bf16", gops: limits.tensorBf16Gflops ?? null, unit: "GFLOP/s", of: isGpu },
    { name: "tensor, int8", gops: limits.tensorInt8Gops ?? null, unit: "GOP/s", of: isGpu },
  ];
  const fma = { name: "fma", gops: fmaGflops, unit: "GFLOP/s", of: () => true };
  const all = [...integers, ...tensor, fma];
  return all
    .flatMap(({ name, gops, unit, of }) => (of(isa) && isNumber(gops) && gops > 0 ? [{ name, gops, unit }] : []))
    .sort((a, b) => b.gops - a.gops);
}

export const roofText = ({ name, gops, unit }: Roof): string => `${name} ${withUnit(figure(gops), unit)}`;

export const memoryText = (readGBs: number): string => `read ${withUnit(figure(readGBs), "GB/s")}`;

/** A roof's line in the plot. */
export interface RoofLine {
  text: string;
  from: Point;
  to: Point;
}

/** The slope first. It ends, and each level line begins, where the two meet. */
export function roofLines(
  roofs: readonly Roof[],
  readGBs: number,
  x: Scale,
  y: Scale,
  [left, right]: readonly [number, number],
): RoofLine[] {
  const clamped = (intensity: number) => Math.min(Math.max(intensity, left), right);
  const end = roofs[0] ? clamped(roofs[0].gops / readGBs) : right;
  const at = (intensity: number, gops: number) => ({ x: x(intensity), y: y(gops) });
  return [
    { text: memoryText(readGBs), from: at(left, left * readGBs), to: at(end, end * readGBs) },
    ...roofs.map((roof) => ({
      text: roofText(roof),
      from: at(clamped(roof.gops / readGBs), roof.gops),
      to: at(right, roof.gops),
    })),
  ];
}

/** Bold letters are wider. */
const boldWidth = 1.1;

/** The lines' names: those of the levels near their right ends, that of the slope, which is longer, where room is left. */
export function roofNames(
  lines: readonly RoofLine[],
  points: readonly Point[],
  { box, fontSize }: NameGround,
): Label[] {
  const [slope, ...levels] = lines;
  const wanted = [
    ...levels.map(({ text, from, to }) => ({ text, at: along(to, from) })),
    ...(slope ? [{ text: slope.text, at: along(slope.from, slope.to) }] : []),
  ];
  const marks = [...points, ...lines.flatMap(({ from, to }) => along(from, to))];
  return placeLabels(wanted, { bounds: box, texts: [], marks, fontSize: fontSize * boldWidth });
}

interface NameGround {
  box: Box;
  fontSize: number;
}
