import { passed } from "./ops.js";
import type { Report, Result } from "./schema.js";

/** What people read of a model's run. */
export function reportText(report: Report): string {
  const { results, ratios = [] } = report;
  return (
    machineText(report) +
    textOf(results.map((result) => [result.name, resultText(result)])) +
    textOf(ratios.map(({ name, peer, value }) => [name, `${value.toFixed(2)} × that of ${peer}`])) +
    modelsText(results) +
    disturbedText(results)
  );
}

/** Past this spread a run says more of what else the machine did than of what is measured. */
const mostSpread = 0.2;

function disturbedText(results: readonly Result[]): string {
  // Single calls of microseconds spread by themselves: by the clock, the caches and the garbage collector.
  const spreads = results.filter(({ unit }) => unit !== "µs").map(({ spread }) => spread);
  const most = Math.max(0, ...spreads);
  if (most <= mostSpread) return "";
  const advice = "run again on an idle machine before trusting medians, shares or ratios";
  return textOf([["disturbed:", `samples spread by up to ${percent(most)}; ${advice}`]]);
}

/** The machine, and what it can do at most. */
export function machineText({ machine, limits }: Pick<Report, "machine" | "limits">): string {
  const rate = (value: number | null, unit: string) => (value === null ? "none" : `${value.toFixed(1)} ${unit}`);
  return textOf([
    ["machine", `${machine.processor}, ${machine.cores} cores, ${(machine.memoryBytes / 1e9).toFixed(0)} GB`],
    ["read, copy", `${rate(limits.readGBs, "GB/s")}, ${rate(limits.copyGBs, "GB/s")}`],
    ["fma, bf16 dot", `${rate(limits.fmaGflops, "GFLOP/s")}, ${rate(limits.bf16dotGflops, "GFLOP/s")}`],
    ["maddubs, dpbusd", `${rate(limits.maddubsGops, "GOP/s")}, ${rate(limits.dpbusdGops, "GOP/s")}`],
  ]);
}

const textOf = (lines: readonly [string, string][]) =>
  lines.map(([name, text]) => `${name.padEnd(16)} ${text}\n`).join("");

function resultText({ by, value, unit, share, spread, samples, isa, threads, at = {} }: Result): string {
  const judged = share === null ? "" : `  ${percent(share)} of the limit`;
  const where = [by, isa, `${threads} threads`, ...Object.entries(at).map(([name, held]) => `${name} ${held}`)];
  const noise = samples === 1 ? "" : `  ± ${percent(spread / 2)}, ${samples} rounds`;
  return `${value.toFixed(value < 100 ? 2 : 0)} ${unit}${judged}${noise}  (${where.join(", ")})`;
}

/** A line for each op, in the manner of BLIS: what it was, how fast, and whether it was right. */
const opColumns: readonly { title: string; width: number; left?: boolean; of: (result: Result) => string }[] = [
  { title: "op", width: 10, left: true, of: ({ name }) => name.split("/")[0]! },
  { title: "shape", width: 15, left: true, of: ({ name }) => name.split("/")[1]! },
  { title: "format", width: 6, left: true, of: ({ at }) => String(at?.format ?? "") },
  { title: "tokens", width: 6, of: ({ at }) => String(at?.tokens ?? "") },
  { title: "isa", width: 6, left: true, of: ({ isa }) => isa },
  { title: "threads", width: 7, of: ({ threads }) => String(threads) },
  { title: "µs", width: 10, of: ({ micros }) => micros!.toFixed(1) },
  { title: "speed", width: 15, of: ({ value, unit }) => `${value.toFixed(1)} ${unit.padEnd(7)}` },
  { title: "of limit", width: 8, of: ({ share }) => (share === null ? "" : percent(share)) },
  { title: "spread", width: 6, of: ({ spread }) => percent(spread) },
  { title: "error", width: 7, of: ({ error }) => (error === 0 ? "0" : error!.toExponential(0)) },
  { title: "", width: 4, of: (result) => (passed(result) ? "PASS" : "FAIL") },
];

const opLine = (cell: (column: (typeof opColumns)[number]) => string) =>
  `${opColumns.map((column) => (column.left ? cell(column).padEnd(column.width) : cell(column).padStart(column.width))).join("  ")}\n`;

export const opTitles = (): string => opLine(({ title }) => title);
export const opText = (result: Result): string => opLine(({ of }) => of(result));

/** How each figure follows from its time: once for all shapes and tokens of an op. */
export function modelsText(results: readonly Result[]): string {
  const told = results.filter((result) => result.model !== undefined);
  return textOf([...new Map(told.map(({ name, model }) => [name.replace(/\/[^/]+\/\d+$/, ""), model!]))]);
}

const percent = (part: number) => `${(100 * part).toFixed(0)} %`;
