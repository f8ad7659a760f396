/** A report as one HTML page that needs no other file and runs no script. */
import type { Limits, Machine, Report } from "../schema.js";
import { figure, fixed, gigabytes, isNumber } from "./format.js";
import { type Markup, markup, Markup as Raw } from "./markup.js";
import { overBatch, overContext } from "./rates.js";
import { rooflines } from "./roofline.js";
import { inRuns } from "./runs.js";
import { shareBars } from "./shares.js";
import { style } from "./style.js";
import { allResults, besidePeers, wholeModels } from "./tables.js";

/** The browser is told to fetch nothing and to run nothing, whatever a report holds. */
const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

export function writePage(report: Report): string {
  const title = `cria on ${report.machine.processor}`;
  const sections = parts.flatMap(({ title, body }) => {
    const drawn = body(report);
    return drawn === undefined ? [] : [{ title, drawn }];
  });
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Raw(style)}</style>
</head>
<body>
${header(report)}
<main>
<nav aria-label="Contents">${sections.map(({ title }) => markup`<a href="#${idOf(title)}">${title}</a>`)}</nav>
${sections.map(
  ({ title, drawn }) => markup`<section aria-labelledby="${idOf(title)}"><h2 id="${idOf(title)}">${title}</h2>
${drawn}</section>
`,
)}</main>
</body>
</html>
`.text;
}

/** Sections, each left out of a report that has nothing for it. */
const parts: readonly { title: string; body: (report: Report) => Markup | undefined }[] = [
  { title: "Whole models", body: ({ results }) => wholeModels(results) },
  { title: "Beside the peers", body: besidePeers },
  { title: "Rooflines", body: ({ results, limits }) => rooflines(results, limits) },
  { title: "Tokens per second over the batch", body: ({ results }) => overBatch(results) },
  { title: "Tokens per second over the context", body: ({ results }) => overContext(results) },
  { title: "Share of the limit, op by op", body: shareBars },
  { title: "All results", body: allResults },
];

const idOf = (title: string) => title.toLowerCase().replace(/[^a-z]+/g, "-");

function header(report: Report): Markup {
  const { date, commit, command, machine, limits } = report;
  const facts: [string, Markup | string][] = [
    ["cores", fixed(machine.cores, 0)],
    ["memory", gigabytes(machine.memoryBytes)],
    ...(machine.node === undefined ? [] : [["Node.js", machine.node] as [string, string]]),
    ...gpuFacts(machine),
    ["system", machine.system],
    ["date", markup`<time datetime="${date}">${readable(date)}</time>`],
  ];
  const codes = [
    ["commit", commit?.replace(longHash, "$1") ?? "not known"],
    ["command", command],
  ];
  return markup`<header>
<p class="eyebrow">cria, measured</p>
<h1>${machine.processor}</h1>
<dl class="facts">${facts.map(
    ([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>
`,
  )}${codes.map(
    ([name, text]) => markup`<div class="wide"><dt>${name}</dt><dd><code>${words(text!)}</code></dd></div>
`,
  )}</dl>
<dl class="limits">${limitsOf(limits).map(
    ([
      name,
      value,
      unit,
    ]) => markup`<div><dt>${name}</dt><dd>${isNumber(value) ? markup`${figure(value)} <span class="unit">${unit}</span>` : markup`<span class="unit">not there</span>`}</dd></div>
`,
  )}</dl>
<p>What this machine did at best ${inRuns(report)}: its memory, and its arithmetic by instruction.</p>
</header>`;
}

/** Of a commit: its first 12 digits tell it from any other, and fit a phone. */
const longHash = /\b([0-9a-f]{12})[0-9a-f]{28}\b/g;

function gpuFacts({ gpu }: Machine): [string, string][] {
  if (gpu === undefined) return [];
  const clocks: [string, string][] = gpu.clocks === "" ? [] : [["clocks", gpu.clocks]];
  return [["capability", gpu.capability], ["CUDA", gpu.cuda], ...clocks];
}

function limitsOf(limits: Limits): [string, number | null, string][] {
  const memory: [string, number, string][] = [
    ["read", limits.readGBs, "GB/s"],
    ["copy", limits.copyGBs, "GB/s"],
  ];
  const { tensorBf16Gflops, tensorInt8Gops } = limits;
  if (tensorBf16Gflops !== undefined && tensorInt8Gops !== undefined) {
    return [...memory, ["tensor, bf16", tensorBf16Gflops, "GFLOP/s"], ["tensor, int8", tensorInt8Gops, "GOP/s"]];
  }
  return [
    ...memory,
    ["fma", limits.fmaGflops, "GFLOP/s"],
    ["maddubs", limits.maddubsGops, "GOP/s"],
    ["dpbusd", limits.dpbusdGops, "GOP/s"],
    ["bf16 dot", limits.bf16dotGflops, "GFLOP/s"],
  ];
}

/** Broken between words alone, for an option that is cut at its hyphens cannot be read. */
function words(text: string): Markup {
  const inLine = (line: string) => line.split(" ").map((word) => markup`<span>${word}</span> `);
  return markup`${text.split("\n").map((line, i) => markup`${i > 0 && markup`<br>`}${inLine(line)}`)}`;
}

/** To the minute; as it stands where it is no date. */
function readable(date: string): string {
  const parsed = new Date(date);
  if (Number.isNaN(parsed.getTime())) return date;
  return `${parsed.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
