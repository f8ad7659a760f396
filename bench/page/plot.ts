/** A plot's frame: axes, the lines across it, and the labels in it. */
import { type Box, type Label, type Point, textWidth } from "./labels.js";
import { type Markup, markup } from "./markup.js";
import type { Interval, Scale } from "./scale.js";

/** In units of the viewBox; shown, these are pixels, more or less. */
export interface Size {
  name: "small" | "large";
  width: number;
  height: number;
  fontSize: number;
}

/** Half of a wide page, and all of a phone's: the text stays as large where the plot is small. */
export const sizes: readonly Size[] = [
  { name: "small", width: 320, height: 320, fontSize: 11.5 },
  { name: "large", width: 544, height: 400, fontSize: 12.5 },
];

export interface Axis {
  title: string;
  scale: Scale;
  /** Numbers beside the ticks. */
  format: (value: number) => string;
}

/** Room for the numbers of the axes and their titles. */
const margin = { left: 44, right: 10, top: 26, bottom: 42 };

/** Where values are drawn: y grows downwards. */
export function plotArea({ width, height }: Size): { x: Interval; y: Interval; box: Box } {
  const [right, bottom] = [width - margin.right, height - margin.bottom];
  return {
    x: [margin.left, right],
    y: [bottom, margin.top],
    box: { x: margin.left, y: margin.top, width: right - margin.left, height: bottom - margin.top },
  };
}

/** An image with a name, for those who cannot see it. */
export function image(name: string, { width, height }: { width: number; height: number }, body: Markup): Markup {
  return markup`<svg role="img" aria-label="${name}" viewBox="0 0 ${width} ${height}">${body}</svg>`;
}

/** The plot at each size; the page's style shows the one that fits. */
export function atEachSize(draw: (size: Size) => Markup): Markup {
  return markup`${sizes.map((size) => markup`<div class="${size.name}">${draw(size)}</div>`)}`;
}

export function axes(size: Size, x: Axis, y: Axis): Markup {
  const { box } = plotArea(size);
  const bottom = box.y + box.height;
  const right = box.x + box.width;
  const columns = spaced(x, size.fontSize).map(({ text, at }) => ({ text, x: round(at) }));
  const rows = y.scale.ticks.map((tick) => ({ text: y.format(tick), y: round(y.scale(tick)) }));
  return markup`<g class="grid">${columns.map(({ x }) => markup`<path d="M${x} ${box.y}V${bottom}"/>`)}${rows.map(
    ({ y }) => markup`<path d="M${box.x} ${y}H${right}"/>`,
  )}</g><g class="ticks" font-size="${size.fontSize}">${columns.map(
    ({ text, x }) =>
      markup`<text class="x" x="${x}" y="${bottom + size.fontSize + 5}" text-anchor="middle">${text}</text>`,
  )}${rows.map(
    ({ text, y }) =>
      markup`<text class="y" x="${box.x - 6}" y="${round(y + size.fontSize * 0.35)}" text-anchor="end">${text}</text>`,
  )}</g><g class="titles" font-size="${size.fontSize}"><text x="0" y="${size.fontSize}">${y.title}</text><text x="${right}" y="${size.height - 4}" text-anchor="end">${x.title}</text></g>`;
}

/** The ticks whose numbers have room beside each other. */
function spaced({ scale, format }: Axis, fontSize: number): { text: string; at: number }[] {
  let end = Number.NEGATIVE_INFINITY;
  return scale.ticks.flatMap((tick) => {
    const [text, at] = [format(tick), scale(tick)];
    const half = textWidth(text, fontSize) / 2;
    if (at - half < end + 4) return [];
    end = at + half;
    return [{ text, at }];
  });
}

/** Labels with a rim of the paper's colour, so that a line behind them does not cross the letters. */
export function labelled(labels: readonly (Label & { class?: string })[], fontSize: number): Markup {
  return markup`<g class="labels" font-size="${fontSize}" text-anchor="middle">${labels.map(
    ({ text, x, y, leader, class: kind }) =>
      markup`${leader && markup`<path class="leader" d="${line(leader)}"/>`}<text class="${kind ?? "ink"}" x="${round(x)}" y="${round(y)}">${text}</text>`,
  )}</g>`;
}

export function line(points: readonly Point[]): string {
  return `M${points.map(({ x, y }) => `${round(x)} ${round(y)}`).join("L")}`;
}

/** A tenth of a pixel is finer than is seen. */
export const round = (value: number): number => Math.round(value * 10) / 10;

/** Told apart by form too, for those who do not tell the colours apart. */
const marks: readonly ((r: number) => string)[] = [
  (r) => `m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => `m${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `m0 ${-1.3 * r}l${1.3 * r} ${2.2 * r}h${-2.6 * r}z`,
  (r) => `m0 ${-1.4 * r}l${1.4 * r} ${1.4 * r}l${-1.4 * r} ${1.4 * r}l${-1.4 * r} ${-1.4 * r}z`,
];

/** The kind's form around a point; its colour is the class k0, k1, … of the page's style. */
export function mark(kind: number, { x, y }: Point, title: string | undefined): Markup {
  const path = `M${round(x)} ${round(y)}${marks[kind % marks.length]!(3)}`;
  return markup`<path class="mark k${kind}" d="${path}">${title !== undefined && markup`<title>${title}</title>`}</path>`;
}
