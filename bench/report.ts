import type { BenchResult, Spread } from "./tokens.js";

/** What people read. */
export function report(result: BenchResult): string {
  const { machine } = result;
  const fixed = (value: number) => value.toFixed(value < 100 ? 2 : 0);
  const rate = ({ median, low, high }: Spread) => `${fixed(median)} tok/s  (${fixed(low)} to ${fixed(high)})`;
  const gb = (bytes: number, digits = 1) => `${(bytes / 1e9).toFixed(digits)} GB`;
  const bandwidth = ({ median, low, high }: Spread) => `${gb(median)}/s  (${gb(low)} to ${gb(high)})`;
  const lines = [
    ["machine", `${machine.processor}, ${gb(machine.memoryBytes, 0)}`],
    ["threads, isa", `${machine.threads}, ${machine.isa}`],
    ["model", result.model],
    ["ready after", `${(result.loadMs / 1e3).toFixed(2)} s`],
    ["prefill", `${rate(result.prefillTokensPerSecond)}, ${result.promptTokens} tokens`],
    ["decode", `${rate(result.decodeTokensPerSecond)}, ${result.generatedTokens} tokens`],
    ["read per token", `${gb(result.bytesPerToken, 3)} of weights and cache`],
    ["decode reads", bandwidth(result.decodeBytesPerSecond)],
    ["memory gives", `${bandwidth(result.readBytesPerSecond)}, read plainly in between, on as many threads`],
    ["share", `${(result.shareOfBandwidth * 100).toFixed(0)} % of what memory gives`],
  ];
  return `${lines.map(([name, value]) => `${name!.padEnd(15)} ${value}`).join("\n")}\n`;
}
