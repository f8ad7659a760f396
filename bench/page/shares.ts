/** Bars of the share that each kernel reaches of its limit. */
import type { Report } from "../schema.js";
import { isNumber, percent, plural } from "./format.js";
import { type Markup, markup } from "./markup.js";
import { grouped, isasOf, mostThreads, type OpResult, onMostThreads, opResults, shapeOf } from "./names.js";
import { image, round } from "./plot.js";
import { inRuns } from "./runs.js";

/** Of one shape's picture, in pixels, more or less: what a phone shows without scrolling. */
const width = 288;
const fontSize = 11.5;
/** The instruction sets' names stand left of the bars. */
const left = 50;
/** Of a bar that reaches the limit. */
const full = 30;
/** A bar is not drawn higher than this; the figure over it says how high it would be. */
const highest = 1.12;
/** Of a row: the bar, the figure over it, and air. */
const row = full * highest + fontSize + 10;

type Shared = OpResult & { share: number };

export function shareBars(report: Report): Markup | undefined {
  const ops = onMostThreads(opResults(report.results)).filter((result): result is Shared => isNumber(result.share));
  if (ops.length === 0) return undefined;
  return markup`<p>Percent of what the machine allows, measured ${inRuns(report)}, on ${plural(mostThreads(ops), "thread")}. A full
column is the limit. What goes beyond is of rows that a cache held, or of memory that was faster than in the plain reads
just before and after. Under the columns, the tokens in the batch.</p>
${[...grouped(ops, ({ op }) => op)].map(
  ([op, group]) => markup`<section class="shares"><h3>${op}</h3>
<div class="cells">${[...grouped(group, shapeOf)].map(([shape, cell]) => drawn(op, shape, cell))}</div></section>
`,
)}`;
}

function drawn(op: string, shape: string, cell: readonly Shared[]): Markup {
  const isas = isasOf(cell);
  const counts = [...new Set(cell.map(({ tokens }) => tokens))].sort((a, b) => a - b);
  const step = Math.min(40, (width - left) / counts.length);
  const height = round(isas.length * row + 18);
  const rows = isas.map((isa, i) => {
    const base = (i + 1) * row;
    const bars = cell.filter((result) => result.isa === isa);
    return markup`<text class="y" x="0" y="${round(base - 1)}">${isa}</text>${bars.map((result) =>
      bar(result, left + counts.indexOf(result.tokens) * step, base, step),
    )}`;
  });
  const ticks = counts.map(
    (count, i) =>
      markup`<text class="x" x="${round(left + (i + 0.5) * step)}" y="${height - 3}" text-anchor="middle">${count}</text>`,
  );
  const body = markup`<g font-size="${fontSize}">${rows}<g class="ticks">${ticks}</g></g>`;
  return markup`<figure class="share"><figcaption>${shape}</figcaption>${image(nameOf(op, shape, isas, cell), { width, height }, body)}</figure>`;
}

/** On a lighter column as high as the limit. */
function bar({ share }: Shared, x: number, base: number, step: number): Markup {
  const wide = round(step * 0.76);
  const at = round(x + (step - wide) / 2);
  const column = (part: number, kind: string) => {
    const height = round(full * part);
    return markup`<rect class="${kind}" x="${at}" y="${round(base - height)}" width="${wide}" height="${height}"/>`;
  };
  const figureAt = markup`x="${round(x + step / 2)}" y="${round(base - full * highest - 4)}" text-anchor="middle"`;
  return markup`${column(1, "rest")}${column(Math.min(Math.max(share, 0), highest), "bar")}<text class="figure" ${figureAt}>${percent(share)}</text>`;
}

/** All that the picture says. */
function nameOf(op: string, shape: string, isas: readonly string[], cell: readonly Shared[]): string {
  const rows = isas.map((isa) => {
    const bars = cell.filter((result) => result.isa === isa);
    return `${isa} ${bars.map(({ share, tokens }) => `${percent(share)} % at ${plural(tokens, "token")}`).join(", ")}`;
  });
  return `Share of the limit of ${op}, ${shape}: ${rows.join("; ")}`;
}
