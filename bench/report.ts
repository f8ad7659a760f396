import type { Report, Result } from "./schema.js";

/** What people read. */
export function reportText({ machine, limits, results }: Report): string {
  const rate = (value: number | null, unit: string) => (value === null ? "none" : `${value.toFixed(1)} ${unit}`);
  const lines: [string, string][] = [
    ["machine", `${machine.processor}, ${machine.cores} cores, ${(machine.memoryBytes / 1e9).toFixed(0)} GB`],
    ["read, copy", `${rate(limits.readGBs, "GB/s")}, ${rate(limits.copyGBs, "GB/s")}`],
    ["fma, bf16 dot", `${rate(limits.fmaGflops, "GFLOP/s")}, ${rate(limits.bf16dotGflops, "GFLOP/s")}`],
    ["maddubs, dpbusd", `${rate(limits.maddubsGops, "GOP/s")}, ${rate(limits.dpbusdGops, "GOP/s")}`],
    ...results.map((result): [string, string] => [result.name, resultText(result)]),
  ];
  return lines.map(([name, text]) => `${name.padEnd(16)} ${text}\n`).join("");
}

function resultText({ value, unit, share, spread, samples, isa, threads, at = {} }: Result): string {
  const percent = (part: number) => `${(100 * part).toFixed(0)} %`;
  const judged = share === null ? "" : `  ${percent(share)} of the limit`;
  const where = [isa, `${threads} threads`, ...Object.entries(at).map(([name, held]) => `${name} ${held}`)];
  return `${value.toFixed(value < 100 ? 2 : 0)} ${unit}${judged}  ± ${percent(spread / 2)} of ${samples}  (${where.join(", ")})`;
}
