/** Which lines of tokens per second a report's results make. */
import type { Result } from "../schema.js";
import { shapes } from "../shapes.js";
import { isNumber, plural } from "./format.js";
import { type LinePlot, linePlot, type Series } from "./lines.js";
import { type Markup, markup } from "./markup.js";
import { commonOf, grouped, isasOf, type OpResult, onMostThreads, opResults, placeOf, without } from "./names.js";

export function overBatch(results: readonly Result[]): Markup | undefined {
  const plots = [
    ...productPlots(results),
    measured(results, "prefill", "prompt", "Prompts, whole models", "tokens of the prompt"),
    measured(results, "decode", "sequences", "Decoding together, whole models", "sequences"),
  ].filter((plot) => plot !== undefined);
  if (plots.length === 0) return undefined;
  const products = plots.some(({ caption }) => caption.endsWith(productsOnly));
  return markup`${
    products &&
    markup`<p>What products alone allow: the tokens over the time that ${layerProducts.join(", ")} of every layer
take together. Attention and what is smaller come on top of it in a whole model.</p>`
  }<div class="plots">${plots.map(linePlot)}</div>`;
}

export function overContext(results: readonly Result[]): Markup | undefined {
  const plot = measured(results, "decode", "context", "Decoding, whole models", "tokens of context");
  return plot && markup`<div class="plots">${linePlot(plot)}</div>`;
}

/** Results of one name, as lines over what varies among them; undefined where nothing does. */
function measured(
  results: readonly Result[],
  name: string,
  key: string,
  caption: string,
  over: string,
): LinePlot | undefined {
  const points = onMostThreads(results.filter((result) => result.name === name && result.unit === "tok/s")).flatMap(
    (result) => {
      // How many tokens were generated is how long it was measured, and makes no line of its own.
      const { [key]: x, gen: _, ...elsewhere } = result.at ?? {};
      return isNumber(x) && x > 0 && result.value > 0 ? [{ ...result, x, elsewhere: placeOf(elsewhere) }] : [];
    },
  );
  const isas = isasOf(points);
  const rank = ({ by, isa }: Result) => (by === "cria" ? 0 : isas.length) + isas.indexOf(isa);
  const sorted = points.sort((a, b) => rank(a) - rank(b));
  const lines = [...grouped(sorted, ({ by, isa, elsewhere }) => JSON.stringify([by, isa, elsewhere])).values()].filter(
    (group) => new Set(group.map(({ x }) => x)).size > 1,
  );
  const [first] = lines.flat();
  if (!first) return undefined;
  const common = commonOf(lines.flat().map(({ elsewhere }) => elsewhere));
  const series = lines.map((group) => {
    const { by, isa, elsewhere } = group[0]!;
    const who = by === "cria" ? isa : `${by}, ${isa}`;
    return {
      name: [...without(elsewhere, common), who].join(" "),
      peer: by !== "cria",
      points: byX(group.map(({ x, value }) => ({ x, y: value }))),
    };
  });
  const place = [...common, plural(first.threads, "thread")].join(", ");
  return { caption: `${caption}: ${place}`, over, unit: "tokens/s", logarithmic: false, series };
}

/** All the products of a layer with its weights. */
const layerProducts = ["qkv", "out", "gate_up", "down"];

const productsOnly = "products alone";

/** A plot for each kind of weights, a line for each model and instruction set. */
function productPlots(results: readonly Result[]): LinePlot[] {
  const products = onMostThreads(opResults(results)).flatMap((result) => {
    const [model = "", product = ""] = result.matrix.split(".");
    const seconds = secondsOf(result);
    const layers = shapes[model]?.layers;
    if (!result.op.startsWith("matmul") || !layerProducts.includes(product) || !layers || !seconds) return [];
    return { ...result, model, product, layers, seconds };
  });
  const weights = ({ op, variant }: OpResult) => (variant === "" ? op : `${op}, ${variant}`);
  return [...grouped(products, weights)].flatMap(([op, ofOp]) => {
    const series = [...grouped(ofOp, ({ model }) => model)].flatMap(([model, ofModel]) =>
      isasOf(ofModel).flatMap((isa): Series[] => {
        const points = layerRates(ofModel.filter((result) => result.isa === isa));
        return points.length > 1 ? [{ name: `${model} ${isa}`, peer: false, points: byX(points) }] : [];
      }),
    );
    const caption = `${op}, ${productsOnly}`;
    return series.length > 0
      ? { caption, over: "tokens in the batch", unit: "tokens/s", logarithmic: true, series }
      : [];
  });
}

interface Product {
  product: string;
  tokens: number;
  layers: number;
  seconds: number;
}

/** Tokens per second at each number of tokens at which all products were measured. */
function layerRates(products: readonly Product[]): { x: number; y: number }[] {
  return [...grouped(products, ({ tokens }) => String(tokens)).values()].flatMap((group) => {
    if (layerProducts.some((product) => group.filter((one) => one.product === product).length !== 1)) return [];
    const seconds = group.reduce((sum, one) => sum + one.seconds, 0);
    const { tokens, layers } = group[0]!;
    return { x: tokens, y: tokens / (layers * seconds) };
  });
}

/** Of one run. */
function secondsOf({ micros, operations, value, unit }: Result): number | undefined {
  if (isNumber(micros) && micros > 0) return micros / 1e6;
  const perSecond = unit === "GOP/s" || unit === "GFLOP/s" ? value * 1e9 : Number.NaN;
  return isNumber(operations) && operations > 0 && perSecond > 0 ? operations / perSecond : undefined;
}

const byX = <T extends { x: number }>(points: T[]): T[] => points.sort((a, b) => a.x - b.x);
