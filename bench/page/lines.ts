/** Tokens per second, as lines over something that grows. */
import { figure, short, withUnit } from "./format.js";
import { along, type Point, placeLabels } from "./labels.js";
import { type Markup, markup } from "./markup.js";
import { atEachSize, axes, image, labelled, line, mark, plotArea, type Size } from "./plot.js";
import { linearScale, logScale, type Scale, widened } from "./scale.js";

export interface Series {
  name: string;
  /** A peer's is dashed. */
  peer: boolean;
  points: readonly { x: number; y: number }[];
}

export interface LinePlot {
  caption: string;
  /** What grows: "tokens in the batch". */
  over: string;
  /** Of the values. */
  unit: string;
  /** Whether equal ratios of the values are equal distances; else they start at 0. */
  logarithmic: boolean;
  series: readonly Series[];
}

/** Colours of the page's style. */
const colours = 6;

export function linePlot(plot: LinePlot): Markup {
  const name = `${plot.caption}. ${plot.series.map((series) => described(series, plot)).join("; ")}`;
  return markup`<figure class="lines"><figcaption>${plot.caption}</figcaption>${atEachSize((size) =>
    image(name, size, drawn(size, plot)),
  )}</figure>`;
}

function described({ name, points }: Series, { unit, over }: LinePlot): string {
  return `${name}: ${points.map(({ x, y }) => `${figure(y)} ${unit} at ${short(x)} ${over}`).join(", ")}`;
}

function drawn(size: Size, { over, unit, logarithmic, series }: LinePlot): Markup {
  const area = plotArea(size);
  const points = series.flatMap((one) => one.points);
  const places = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const x = Object.assign(logScale(widened(places, 1.25), area.x), { ticks: places });
  const y = valueScale(
    points.map((point) => point.y),
    logarithmic,
    area.y,
  );
  const lines = series.map((one, i) => ({
    ...one,
    kind: i % colours,
    points: one.points.map((point) => ({ ...point, at: { x: x(point.x), y: y(point.y) } })),
  }));
  const paths = lines.map(({ points }) => onLine(points.map(({ at }) => at)));
  const wanted = lines.map(({ name }, i) => ({ text: name, at: apart(paths[i]!, paths.toSpliced(i, 1).flat()) }));
  const labels = placeLabels(wanted, { bounds: area.box, texts: [], marks: paths.flat(), fontSize: size.fontSize });
  const kindOf = new Map(lines.map(({ name, kind }) => [name, kind]));
  return markup`${axes(size, { title: over, scale: x, format: short }, { title: unit, scale: y, format: short })}${lines.map(
    ({ name, points, kind, peer }) =>
      markup`<g class="series"><path class="line k${kind}${peer && " peer"}" d="${line(points.map(({ at }) => at))}"/>${points.map(
        (point) => mark(kind, point.at, `${name}: ${withUnit(figure(point.y), unit)} at ${short(point.x)} ${over}`),
      )}</g>`,
  )}${labelled(
    labels.map((label) => ({ ...label, class: `k${kindOf.get(label.text)}` })),
    size.fontSize,
  )}`;
}

function valueScale(values: readonly number[], logarithmic: boolean, range: readonly [number, number]): Scale {
  if (logarithmic) return logScale(widened(values, 1.5), range);
  // A label has room over the highest line.
  return linearScale(Math.max(...values) * 1.12, range);
}

/** Points all along it. */
function onLine(points: readonly Point[]): Point[] {
  return points.flatMap((to, i) => along(points[Math.max(0, i - 1)]!, to));
}

/** The third of the points that lies farthest from other lines: a name there is of no other. */
function apart(points: readonly Point[], others: readonly Point[]): Point[] {
  const distance = ({ x, y }: Point) => Math.min(...others.map((other) => Math.hypot(other.x - x, other.y - y)));
  const measured = points.map((point) => ({ point, distance: distance(point) }));
  const sorted = measured.sort((a, b) => b.distance - a.distance).map(({ point }) => point);
  return sorted.slice(0, Math.ceil(sorted.length / 3));
}
