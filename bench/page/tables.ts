/** Tables: of whole models, beside peers, and of everything, a line each as BLIS prints them. */
import type { Ratio, Report, Result } from "../schema.js";
import { figure, fixed, isNumber, percent, plural, withUnit } from "./format.js";
import { type Markup, markup } from "./markup.js";
import { commonOf, grouped, opResults, placeOf, shapeOf, wholeResults, without } from "./names.js";
import { round } from "./plot.js";

interface Column<T> {
  name: string;
  /** Numbers stand flush right. */
  number?: boolean;
  cell: (row: T) => Markup | string | number;
  /** The row's head, which a reader aloud names with each cell. */
  head?: boolean;
}

interface Group<T> {
  /** Over its rows. */
  heading?: Markup;
  rows: readonly T[];
}

/** Wider than a phone it scrolls in its own frame, from the keyboard too. */
function table<T>(name: string, columns: readonly Column<T>[], groups: readonly Group<T>[]): Markup {
  const kind = ({ number }: Column<T>) => (number ? "number" : "text");
  return markup`<div class="scroll" role="region" tabindex="0" aria-label="${name}"><table>
<thead><tr>${columns.map((column) => markup`<th scope="col" class="${kind(column)}">${column.name}</th>`)}</tr></thead>
${groups.map(
  ({
    heading,
    rows,
  }) => markup`<tbody>${heading && markup`<tr class="group"><th scope="rowgroup" colspan="${columns.length}">${heading}</th></tr>`}
${rows.map(
  (row) => markup`<tr>${columns.map((column) =>
    column.head
      ? markup`<th scope="row" class="${kind(column)}">${column.cell(row)}</th>`
      : markup`<td class="${kind(column)}">${column.cell(row)}</td>`,
  )}</tr>
`,
)}</tbody>`,
)}</table></div>`;
}

/** Prompts, texts and loading, cria's and the peers'. */
export function wholeModels(results: readonly Result[]): Markup | undefined {
  const rows = wholeResults(results);
  if (rows.length === 0) return undefined;
  const columns: Column<Result>[] = [
    { name: "by", head: true, cell: ({ by, isa }) => `${by}, ${isa}` },
    { name: "median", number: true, cell: ({ value }) => figure(value) },
    { name: "unit", cell: ({ unit }) => unit },
    { name: "share of the limit, %", cell: shareCell },
    { name: "limit", number: true, cell: ({ limit }) => figure(limit) },
    { name: "threads", number: true, cell: ({ threads }) => threads },
    { name: "spread, %", number: true, cell: ({ spread }) => percent(spread) },
  ];
  return markup`${commonText(rows)}${table("Whole models", columns, byPlace(rows))}`;
}

type Placed = Pick<Result, "name" | "at">;

/** A group for each name and place, headed by what tells it from others. */
function byPlace<T extends Placed>(rows: readonly T[]): Group<T>[] {
  const everywhere = commonOf(rows.map(({ at }) => placeOf(at)));
  return [...grouped(rows, ({ name }) => name)].flatMap(([name, named]) => {
    const places = grouped(named, ({ at }) => JSON.stringify(placeOf(at)));
    const common = places.size === 1 ? everywhere : commonOf(named.map(({ at }) => placeOf(at)));
    return [...places.values()].map((group) => {
      const notes = without(placeOf(group[0]!.at), common);
      return { heading: heading(name, notes), rows: group };
    });
  });
}

function commonText(rows: readonly Placed[]): Markup | undefined {
  const common = commonOf(rows.map(({ at }) => placeOf(at)));
  return common.length === 0
    ? undefined
    : markup`<p>All of ${common.join(", ")}.</p>
`;
}

function heading(name: string, notes: readonly string[]): Markup {
  return markup`<span class="heading">${name}${notes.length > 0 && markup` <span class="note">${notes.join(", ")}</span>`}</span>`;
}

function shareCell({ share }: Result): Markup | string {
  return isNumber(share) ? markup`${meter(share, 1, percent(share))}` : "–";
}

/** A bar in a table's cell, with its figure. The tick is at 1. */
function meter(value: number, most: number, text: string): Markup {
  const width = 100;
  const at = (x: number) => round((Math.min(Math.max(x, 0), most) / most) * width);
  return markup`<span class="meter"><span class="number">${text}</span><svg viewBox="0 0 ${width} 10" aria-hidden="true"><rect class="rest" width="${width}" height="10"/><rect class="bar" width="${at(value)}" height="10"/><path d="M${at(1)} 0v10"/></svg></span>`;
}

export function besidePeers({ ratios = [], results }: Report): Markup | undefined {
  if (ratios.length === 0) return undefined;
  const most = Math.max(1, ...ratios.map(({ value }) => value).filter(isNumber));
  const columns: Column<Ratio>[] = [
    { name: "", head: true, cell: ({ isa, peer }) => `${isa} over ${peer}` },
    { name: "ratio", cell: ({ value }) => meter(value, most, withUnit(fixed(value, 2), "×")) },
    { name: "cria", number: true, cell: (ratio) => figure(medianOf(results, ratio, ({ by }) => by === "cria")) },
    { name: "peer", number: true, cell: (ratio) => figure(medianOf(results, ratio, isOf(ratio.peer))) },
    { name: "threads", number: true, cell: ({ threads }) => threads },
  ];
  return markup`<p>Ratios of medians in tokens per second, the two of each measured in turn in one run. The tick in a bar is at
1, as fast as the peer.</p>
${commonText(ratios)}${table("Beside the peers", columns, byPlace(ratios))}`;
}

/** Ratios name a peer with its instruction set, or alone. */
const isOf =
  (peer: string) =>
  ({ by, isa }: Result): boolean =>
    by === peer || `${by}, ${isa}` === peer;

/** Of the result that a ratio is of. A peer may have instruction sets of other names. */
function medianOf(results: readonly Result[], ratio: Ratio, wanted: (result: Result) => boolean): number | undefined {
  const place = JSON.stringify(placeOf(ratio.at));
  const alike = results.filter(
    (result) =>
      wanted(result) &&
      result.name === ratio.name &&
      result.threads === ratio.threads &&
      JSON.stringify(placeOf(result.at)) === place,
  );
  return (alike.find(({ isa }) => isa === ratio.isa) ?? (alike.length === 1 ? alike[0] : undefined))?.value;
}

type Line = Result & { group: string; shape: string; tokens?: number };

/** Every result of the report. */
export function allResults({ results }: Report): Markup {
  if (results.length === 0) return markup`<p>Nothing was measured.</p>`;
  const lines: Line[] = [
    ...wholeResults(results).map((result) => ({ ...result, group: result.name, shape: placeOf(result.at).join(", ") })),
    ...opResults(results).map((result) => ({ ...result, group: result.op, shape: shapeOf(result) })),
  ];
  const one = (key: (line: Line) => unknown) => new Set(lines.map(key)).size === 1;
  const columns: (Column<Line> & { if?: boolean })[] = [
    { name: "shape", head: true, cell: ({ shape }) => shape || "–" },
    { name: "tokens", number: true, cell: ({ tokens }) => fixed(tokens, 0) },
    { name: "by", cell: ({ by }) => by, if: !one(({ by }) => by) },
    { name: "ISA", cell: ({ isa }) => isa },
    { name: "threads", number: true, cell: ({ threads }) => threads },
    { name: "time, µs", number: true, cell: ({ micros }) => fixed(micros, 1) },
    { name: "value", number: true, cell: ({ value }) => fixed(value, 2) },
    { name: "unit", cell: ({ unit }) => unit },
    { name: "limit", number: true, cell: ({ limit }) => fixed(limit, 1) },
    { name: "share, %", number: true, cell: ({ share }) => (isNumber(share) ? fixed(share * 100, 1) : "–") },
    { name: "spread, %", number: true, cell: ({ spread }) => (isNumber(spread) ? fixed(spread * 100, 1) : "–") },
    { name: "samples", number: true, cell: ({ samples }) => fixed(samples, 0) },
    { name: "error", cell: verdict, if: lines.some(({ error }) => error !== undefined) },
  ];
  const groups = [...grouped(lines, ({ group }) => group)].map(([group, rows]) => ({
    heading: heading(group, [...new Set(rows.flatMap(({ model }) => model ?? []))]),
    rows,
  }));
  return markup`<p>${plural(results.length, "result")}, each a median; the spread is what lies between the tenths of its samples,
over it. ${errorText(lines)}</p>
${table(
  "All results",
  columns.filter((column) => column.if !== false),
  groups,
)}`;
}

function errorText(lines: readonly Line[]): string {
  const checked = lines.filter(({ error }) => error !== undefined);
  const failed = checked.filter(({ error }) => error !== 0).length;
  if (checked.length === 0) return "";
  const bits = failed === 0 ? "all of them the same bits" : `${fixed(failed, 0)} of them other bits`;
  return `The error is the largest difference from the scalar kernel: ${plural(checked.length, "op")} compared, ${bits}.`;
}

function verdict({ error }: Result): Markup | string {
  if (error === undefined) return "–";
  if (error === 0) return markup`0\u00a0<span class="pass">pass</span>`;
  return markup`${isNumber(error) ? error.toExponential(1) : "NaN"}\u00a0<strong class="fail">fail</strong>`;
}
