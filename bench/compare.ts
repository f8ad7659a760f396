/** Two reports beside each other: what got faster or slower than the noise of both. */
import type { Report, Result } from "./schema.js";

/**
 * What two runs of one build differ by at least, beside what each spreads by: where their pages lie in memory, and which
 * clock the processor kept. A result of one sample has no spread of its own.
 */
const leastNoise = 0.02;

/** A result that is in both reports. */
export interface Change {
  result: Result;
  old: number;
  /** The new value over the old. */
  ratio: number;
  /** How many times as fast: the ratio, or its inverse where less is better. */
  gain: number;
  verdict: "faster" | "slower" | "noise";
}

export interface Comparison {
  /** What got slower most first. */
  changes: Change[];
  onlyOld: Result[];
  onlyNew: Result[];
}

/** Results are the same that have the same name and were read by the same, on as many threads, at the same place. */
export function compare(old: readonly Result[], now: readonly Result[]): Comparison {
  const before = new Map(old.map((result) => [identity(result), result]));
  const after = new Set(now.map(identity));
  const changes = now.flatMap((result) => {
    const other = before.get(identity(result));
    return other === undefined ? [] : [change(other, result)];
  });
  return {
    changes: changes.sort((a, b) => a.gain - b.gain),
    onlyOld: old.filter((result) => !after.has(identity(result))),
    onlyNew: now.filter((result) => !before.has(identity(result))),
  };
}

/** The same text for the same thing, measured again. */
export function identity({
  name,
  by,
  isa,
  threads,
  at = {},
}: Pick<Result, "name" | "by" | "isa" | "threads" | "at">): string {
  return JSON.stringify([name, by, isa, threads, Object.entries(at).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/**
 * A change counts where the two ranges do not meet, each being the median and half the spread to both sides: what lies
 * between the tenths of the samples, were they symmetric.
 */
function change(old: Result, now: Result): Change {
  const ratio = now.value / old.value;
  const gain = lessIsBetter(now) ? 1 / ratio : ratio;
  const below = ({ value, spread }: Result) => value * (1 - spread / 2);
  const above = ({ value, spread }: Result) => value * (1 + spread / 2);
  const apart = below(now) > above(old) || above(now) < below(old);
  const counts = apart && Math.abs(ratio - 1) > leastNoise;
  return { result: now, old: old.value, ratio, gain, verdict: counts ? (gain > 1 ? "faster" : "slower") : "noise" };
}

const lessIsBetter = ({ unit }: Result) => ["s", "µs", "x"].includes(unit);

/** What people read: a line for each, and one for all. */
export function compareText(path: string, old: Report, { changes, onlyOld, onlyNew }: Comparison): string {
  const rows = changes.map(({ result, old, ratio, verdict }) => [
    result.name,
    `${number(old)} → ${number(result.value)} ${result.unit}`,
    `× ${ratio.toFixed(3)}`,
    verdict === "noise" ? "within the noise" : verdict,
    [result.by, result.isa, `${result.threads} threads`, ...Object.values(result.at ?? {})].join(", "),
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  const count = (verdict: Change["verdict"]) => changes.filter((change) => change.verdict === verdict).length;
  const all =
    `against ${path} of ${old.date}: ${count("faster")} faster, ${count("slower")} slower, ` +
    `${count("noise")} within the noise; ${onlyOld.length} only there, ${onlyNew.length} only here`;
  return `${[...lines, all].join("\n")}\n`;
}

const number = (value: number) => value.toPrecision(4);
