/**
 * How the page looks. Colours have at least 4.5 : 1 of contrast with the paper, in the light and in the dark (WCAG 2.2,
 * 1.4.3); the six hues are Okabe and Ito's for the colour-blind, darkened and lightened to that end.
 */
const light = `
  --paper: #fdfdfb; --ink: #1c2024; --soft: #565e66; --rule: #d5d8d2; --grid: #e9ebe6; --bar: #3d6a92; --rest: #e4e8ea;
  --k0: #005a9c; --k1: #a63f00; --k2: #00694f; --k3: #8b3a7e; --k4: #5c5f66; --k5: #775800; --fail: #b00020;`;
const dark = `
  --paper: #15181b; --ink: #e8eaec; --soft: #a4adb5; --rule: #363d44; --grid: #272c31; --bar: #7fb0da; --rest: #2a3036;
  --k0: #74b6f2; --k1: #f29a5c; --k2: #4fcaa6; --k3: #df9ad2; --k4: #b4bac2; --k5: #dfc04f; --fail: #ff8a8f;`;

const hues = [0, 1, 2, 3, 4, 5];

export const style = `
:root { color-scheme: light dark; ${light} }
@media screen and (prefers-color-scheme: dark) { :root { ${dark} } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
header, main { max-width: 1152px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 32px; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { margin: 56px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); font-size: 1.25rem; line-height: 1.3; }
h3 { margin: 28px 0 8px; font-size: 1rem; }
p { max-width: 68ch; margin: 8px 0 16px; color: var(--soft); }
.eyebrow { margin: 0 0 4px; font-size: 0.875rem; }
code span { display: inline-block; max-width: 100%; }
code { font: 0.875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; gap: 12px 24px; margin: 20px 0 0; }
dl > div { min-width: 0; }
dt { color: var(--soft); font-size: 0.8125rem; }
dd { margin: 0; overflow-wrap: anywhere; }
dl.facts { grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
dl.facts .wide { grid-column: 1 / -1; }
dl.limits { grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); padding-top: 16px; border-top: 1px solid var(--rule); }
dl.limits dd { font-size: 1.375rem; line-height: 1.3; }
dl.limits .unit { font-size: 0.8125rem; color: var(--soft); }
figure { margin: 0; min-width: 0; }
figcaption { margin-bottom: 4px; font-size: 0.9375rem; font-weight: 600; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font-variant-numeric: tabular-nums; }
.plots { display: grid; gap: 32px; }
.plots .large { display: none; }
.cells { display: grid; gap: 20px 32px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.share { max-width: 340px; break-inside: avoid; }
.share figcaption { font-size: 0.8125rem; font-weight: 400; color: var(--soft); margin-bottom: 0; }
.small { max-width: 480px; }
.grid path { stroke: var(--grid); stroke-width: 1; fill: none; }
.ticks text, .titles text, .share .y { fill: var(--soft); }
.roofs path { fill: none; stroke: var(--ink); stroke-width: 1.5; }
text.roof { font-weight: 600; }
.labels text { paint-order: stroke; stroke: var(--paper); stroke-width: 3.5px; stroke-linejoin: round; }
.leader { stroke: var(--soft); stroke-width: 0.75; fill: none; }
.mark { fill-opacity: 0.75; stroke: var(--paper); stroke-width: 0.5; }
.series .mark { fill-opacity: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.peer { stroke-dasharray: 6 4; }
${hues.map((k) => `.mark.k${k}, text.k${k} { fill: var(--k${k}); } .line.k${k} { stroke: var(--k${k}); }`).join("\n")}
.bar { fill: var(--bar); }
.rest { fill: var(--rest); }
.scroll { overflow-x: auto; margin: 8px 0; }
.scroll:focus-visible { outline: 2px solid var(--k0); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.8125rem; line-height: 1.4; white-space: nowrap; }
th, td { padding: 3px 14px 3px 0; text-align: left; font-weight: 400; unicode-bidi: isolate; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; }
thead th { color: var(--soft); vertical-align: bottom; border-bottom: 1px solid var(--rule); }
.group th { padding-top: 16px; font-weight: 600; white-space: normal; }
tbody tr:not(.group):hover > * { background: var(--grid); }
.heading { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 32px); overflow-wrap: anywhere; }
tbody th[scope="row"] { min-width: 7.5rem; max-width: 24rem; white-space: normal; overflow-wrap: anywhere; }
.note { margin-left: 8px; font-weight: 400; color: var(--soft); }
.meter { display: grid; grid-template-columns: 4.5em 100px; gap: 10px; align-items: center; }
.meter path { stroke: var(--ink); stroke-width: 2; }
.pass { color: var(--soft); }
.fail { color: var(--fail); }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 24px; font-size: 0.875rem; }
a { color: var(--k0); text-underline-offset: 3px; }
main { padding-bottom: 48px; }
@media (max-width: 639px) {
  tbody th[scope="row"] { max-width: 8.5rem; }
  .meter { grid-template-columns: 3em 48px; gap: 6px; }
}
@media (min-width: 640px) {
  header, main { padding-left: 32px; padding-right: 32px; }
  .plots .large { display: block; }
  .plots .small { display: none; }
  .plots figure { max-width: 640px; }
}
@media screen and (min-width: 1080px) {
  .plots { grid-template-columns: 1fr 1fr; }
}
@media print {
  @page { margin: 14mm; }
  :root { --paper: #fff; }
  body { font-size: 10pt; }
  header, main { max-width: none; padding: 0; }
  h2 { margin-top: 28px; }
  h2, h3, p, thead, .group { break-after: avoid; }
  .plots figure, .share, tr, p { break-inside: avoid; }
  .plots { grid-template-columns: 1fr 1fr; gap: 20px; }
  .plots .large { display: none; }
  .plots .small { display: block; max-width: none; }
  .cells { grid-template-columns: repeat(3, 1fr); gap: 10px 20px; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .heading { max-width: none; }
  table { font-size: 6.5pt; }
  tbody th[scope="row"] { min-width: 0; max-width: 16em; }
  th, td { padding-right: 6pt; }
  td.text { white-space: normal; }
  thead th { white-space: normal; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
