import type { Verdict } from "./flat.js";
import type { Phase } from "./soak.js";

/** A phase for people: what was done, and a line an amount. */
export function phaseText({ name, done, seconds, outcomes, facts, amounts }: Phase): string {
  const counts = Object.entries({ ...facts, ...outcomes }).map(([what, count]) => `${what} ${count}`);
  return [
    `${done} ${name} in ${seconds.toFixed(0)} s, ${(done / seconds).toFixed(0)} a second: ${counts.join(", ")}`,
    ["", "first", "last", "growth", "at most"].map(aligned).join(""),
    ...amounts.map(amountText),
    "",
  ].join("\n");
}

function amountText({ name, unit, samples, growth, allowed, flat }: Verdict): string {
  const show = (amount: number) =>
    unit === "bytes" ? `${(amount / 2 ** 20).toFixed(2)} MiB` : String(+amount.toFixed(2));
  const cells = [name, show(samples[0]!), show(samples.at(-1)!), show(growth), show(allowed)].map(aligned);
  return cells.join("") + (flat ? "" : "  LEAKS");
}

const aligned = (cell: string, column: number): string => (column === 0 ? cell.padEnd(20) : cell.padStart(12));
