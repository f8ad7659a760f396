/**
 * Rooflines: how many operations a second each kernel came to, against how many it has for each byte that it moves. A
 * kernel can be no faster than the memory brings its bytes, nor than the arithmetic units take its operations (Williams,
 * Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009).
 */
import type { Limits, Result } from "../schema.js";
import { figure, isNumber, percent, plural, short, withUnit } from "./format.js";
import { along, leaderMarks, type Point, placeLabels, type Wanted } from "./labels.js";
import { type Markup, markup } from "./markup.js";
import { grouped, isasOf, mostThreads, type OpResult, onMostThreads, opResults, shapeOf } from "./names.js";
import { atEachSize, axes, image, labelled, line, mark, plotArea, type Size } from "./plot.js";
import { memoryText, type Roof, roofLines, roofNames, roofsOf, roofText } from "./roofs.js";
import { logScale, widened } from "./scale.js";

interface OpPoint extends OpResult {
  /** Operations per byte. */
  intensity: number;
  /** 10⁹ operations a second. */
  gops: number;
  kind: number;
}

/** Those with a colour of their own; the small kernels share the next. */
const kinds = ["matmul_q4", "matmul_q8", "matmul_f", "attention"];

export function rooflines(results: readonly Result[], limits: Limits): Markup | undefined {
  const ops = onMostThreads(opResults(results));
  const points = ops.flatMap((result) => opPoint(result) ?? []);
  if (points.length === 0) return undefined;
  const missing = ops.length - points.length;
  return markup`<p>What each kernel reaches, against the operations that it has for each byte it must move. Under the slope
the memory bounds it, under a level line the arithmetic of that instruction. A point is an op at one shape and number of
tokens, on ${plural(mostThreads(ops), "thread")}; the small numbers are the tokens of a product. What lies over the slope is of
rows that a cache held, or of memory that was faster than in any plain read.${missing > 0 && ` ${plural(missing, "result")} of ops that only move bytes ${missing === 1 ? "has" : "have"} no place here.`}</p>
<div class="plots">${isasOf(points).map((isa) => panel(isa, ofIsa(points, isa), limits))}</div>`;
}

const ofIsa = (points: readonly OpPoint[], isa: string) => points.filter((point) => point.isa === isa);

function opPoint(result: OpResult): OpPoint | undefined {
  const { bytes, operations, value, unit, micros, op } = result;
  if (!isNumber(bytes) || !isNumber(operations)) return undefined;
  const intensity = operations / bytes;
  const perSecond = { "GOP/s": value, "GFLOP/s": value, "GB/s": value * intensity } as Record<string, number>;
  const gops = perSecond[unit] ?? operations / (micros ?? Number.NaN) / 1e3;
  if (!(intensity > 0 && gops > 0 && isNumber(intensity) && isNumber(gops))) return undefined;
  const kind = kinds.indexOf(op);
  return { ...result, intensity, gops, kind: kind === -1 ? kinds.length : kind };
}

function panel(isa: string, points: readonly OpPoint[], limits: Limits): Markup {
  const roofs = roofsOf(isa, { ...limits, fmaGflops: fmaGflopsOf(points, limits) });
  const roofTexts = [memoryText(limits.readGBs), ...roofs.map(roofText)].join(", ");
  const name = `Roofline of the ${isa} kernels: ${plural(points.length, "point")}, under ${roofTexts}. The table of all results has their figures.`;
  return markup`<figure class="roofline"><figcaption>${isa}</figcaption>${atEachSize((size) =>
    image(name, size, drawn(size, points, limits.readGBs, roofs)),
  )}</figure>`;
}

/**
 * The peak of fma that an instruction set's kernels were held against, where any were: a report's own is that of the
 * widest, and a narrower one's is half of it.
 */
function fmaGflopsOf(points: readonly OpPoint[], limits: Limits): number | null {
  const peaks = points.flatMap(({ unit, limit, intensity }) =>
    unit === "GFLOP/s" && isNumber(limit) && boundByArithmetic(limit, intensity, limits) ? [limit] : [],
  );
  return peaks.length > 0 ? Math.max(...peaks) : limits.fmaGflops;
}

/** By a limit that would need so little of the best bandwidth that memory, which on a shared machine halves, allowed more. */
const boundByArithmetic = (limit: number, intensity: number, { readGBs }: Limits) => limit / intensity < readGBs / 4;

function drawn(size: Size, points: readonly OpPoint[], readGBs: number, roofs: readonly Roof[]): Markup {
  const area = plotArea(size);
  const ridge = roofs.slice(0, 1).map(({ gops }) => gops / readGBs);
  const intensities = widened([...points.map(({ intensity }) => intensity), ...ridge], 1.6);
  const [lowest, highest] = widened(
    [...points, ...roofs].map(({ gops }) => gops),
    2,
  );
  // Room over the highest roof for its name.
  const heights = [lowest, highest * 1.5] as const;
  const x = logScale(intensities, area.x);
  const y = logScale(heights, area.y);
  const placed = points.map((point) => ({ ...point, at: { x: x(point.intensity), y: y(point.gops) } }));
  const places = placed.map(({ at }) => at);
  // Where memory alone is slower than the slowest kernel shown, the slope begins at the frame's foot.
  const left = Math.max(intensities[0], heights[0] / readGBs);
  const lines = roofLines(roofs, readGBs, x, y, [left, intensities[1]]);
  const names = roofNames(lines, places, { box: area.box, fontSize: size.fontSize });
  const wanted = namesOf(placed);
  const labels = placeLabels(wanted, {
    bounds: area.box,
    texts: names.map(({ box }) => box),
    marks: [...places, ...lines.flatMap(({ from, to }) => along(from, to)), ...names.flatMap(leaderMarks)],
    fontSize: size.fontSize,
  });
  const kindOf = new Map(wanted.map(({ text, kind }) => [text, kind]));
  const axisX = { title: "operations per byte", scale: x, format: short };
  const axisY = { title: "10⁹ operations a second", scale: y, format: short };
  return markup`${axes(size, axisX, axisY)}<g class="roofs">${lines.map(
    ({ from, to }) => markup`<path d="${line([from, to])}"/>`,
  )}</g><g>${placed.map((point) =>
    mark(point.kind, point.at, size.name === "large" ? titleOf(point) : undefined),
  )}</g>${labelled(
    names.map((name) => ({ ...name, class: "roof" })),
    size.fontSize,
  )}${labelled(
    labels.map((label) => ({ ...label, class: `k${kindOf.get(label.text)}` })),
    size.fontSize,
  )}`;
}

/** The ops' names, and the numbers of tokens of the product that comes first. */
function namesOf(points: readonly (OpPoint & { at: Point })[]): (Wanted & { kind: number })[] {
  const ofPoints = (text: string, group: typeof points) => ({
    text,
    at: group.map(({ at }) => at),
    kind: group[0]!.kind,
  });
  const ops = [...grouped(points, ({ op }) => op)].sort(([, a], [, b]) => a[0]!.kind - b[0]!.kind);
  const [, product = []] = ops.find(([op]) => op.startsWith("matmul")) ?? [];
  const counts = [...grouped(product, ({ tokens }) => String(tokens))];
  return [
    ...ops.map(([op, group]) => ofPoints(op, group)),
    ...(counts.length > 1 ? counts.map(([count, group]) => ({ ...ofPoints(count, group), optional: true })) : []),
  ];
}

function titleOf(point: OpPoint): string {
  const { op, tokens, gops, intensity, share, unit, value } = point;
  const rate = unit === "GB/s" ? `${withUnit(figure(value), unit)}, ` : "";
  const part = isNumber(share) ? `, ${percent(share)} % of the limit` : "";
  const counted = `${withUnit(figure(gops), "GOP/s")} at ${short(intensity)} operations per byte`;
  return `${op}, ${shapeOf(point)}, ${plural(tokens, "token")}: ${rate}${counted}${part}`;
}
