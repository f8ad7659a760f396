/**
 * What the ways in which models are stored say of their rotary positions, as one {@link Rope}: GGUF's keys, Hugging
 * Face's config.json and Meta's params.json.
 */
import { CriaError, CriaFileError, show } from "../errors.js";
import { type Llama3Scaling, type Rope, type YarnScaling, yarnMagnitude } from "../rope-scaling.js";
import type { GgufMetadata } from "./gguf-metadata.js";
import { f32, string, u32, type Value } from "./gguf-values.js";
import { JsonKeys } from "./json-file.js";

/** What the rest of a model says that its rotary positions depend on. */
export interface RopeContext {
  readonly headDim: number;
  /** The context that the model was trained with, which is the original one where none is named. */
  readonly contextLength: number;
}

/** Where a model names no base: Su et al. 2021, and LLaMA. */
const defaultTheta = 10_000;

/** YaRN's, of its paper for LLaMA (Peng et al. 2023, §3.2). */
const yarnDefaults = { betaFast: 32, betaSlow: 1, truncate: true } as const;

/** Llama 3.1's, which its config.json repeats and its params.json leaves out. */
const llama3Defaults = {
  factor: 8,
  originalContextLength: 8192,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
} as const;

/** What a number may be, and how an error says it. */
interface Range {
  readonly expected: string;
  readonly accepts: (x: number) => boolean;
}

/** The bounds are wide of every published model's. */
const ranges = {
  /** Below 1 the frequencies would rise; the largest in use, Code Llama's, is 1e6. */
  theta: { expected: "from 1 to 1e12", accepts: (x: number) => x >= 1 && x <= 1e12 },
  /** YaRN places its ramp by the logarithm. */
  yarnTheta: { expected: "above 1 and at most 1e12", accepts: (x: number) => x > 1 && x <= 1e12 },
  factor: { expected: "from 1 to 1e6", accepts: (x: number) => x >= 1 && x <= 1e6 },
  /** GGUF's 0 stands for 1. */
  factorOrNone: { expected: "0 or an f32 from 1 to 1e6", accepts: (x: number) => x === 0 || (x >= 1 && x <= 1e6) },
  positive: { expected: "from 1e-6 to 1e6", accepts: (x: number) => x >= 1e-6 && x <= 1e6 },
  share: { expected: "from 0 to 1", accepts: (x: number) => x >= 0 && x <= 1 },
  /** Of what transformers takes, 0, like none, for absent. */
  orNone: { expected: "from 0 to 1e6", accepts: (x: number) => x >= 0 && x <= 1e6 },
  any: { expected: "that is finite", accepts: Number.isFinite },
} satisfies Record<string, Range>;

/** As for a model's context: up to there every position is exact as a float32. */
const mostContext = 2 ** 24;

/** An error of a key, and the code of what is sound but not done here. */
type Fail = (key: string, problem: string, code?: "ERR_CRIA_UNSUPPORTED") => CriaFileError;

/** @throws CriaFileError where YaRN's ramp would end before it begins */
function checkBetas(betaFast: number, betaSlow: number, key: string, fail: Fail): void {
  if (betaFast <= betaSlow) throw fail(key, `must be above the slow beta, ${betaSlow}, not ${betaFast}`);
}

/** GGUF's tensor of what the frequencies are divided by. */
export const ropeDivisorsName = "rope_freqs.weight";

/** In a packed file, which has no tensor beside those of the forward pass: the divisors, an array of f32. */
export const ropeDivisorsKey = "cria.rope.divisors";

/**
 * GGUF's: `llama.rope.*`, as llama.cpp writes and reads them. The divisors of `rope_freqs.weight` come
 * as a tensor, which {@link checkRopeDivisors} checks; a packed file has them in a key of cria's own.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a key of another type or out of its range, ERR_CRIA_UNSUPPORTED for another
 *   scaling, or YaRN's log multiplier
 */
export function readGgufRope(metadata: GgufMetadata, context: RopeContext): Rope {
  const float = floatsOf(metadata);
  const dim = metadata.integer(ropeKey("dimension_count"), 2, context.headDim, context.headDim);
  if (dim % 2 !== 0) throw metadata.error(ropeKey("dimension_count"), `must be even, not ${dim}`);
  // As in llama.cpp: no type means linear, and no factor 1.
  const type = metadata.string(ropeKey("scaling.type"), "linear");
  if (type !== "none" && type !== "linear" && type !== "yarn") {
    const problem = `must be "none", "linear" or "yarn", not ${show(type)}`;
    throw metadata.error(ropeKey("scaling.type"), problem, "ERR_CRIA_UNSUPPORTED");
  }
  const factor = float("scaling.factor", ranges.factorOrNone, float("scale_linear", ranges.factorOrNone, 1)) || 1;
  const theta = float("freq_base", type === "yarn" ? ranges.yarnTheta : ranges.theta, defaultTheta);
  const scale = type === "linear" ? factor : 1;
  const rope = { theta, scale, dim, pairing: "adjacent", ...divisorsIn(metadata, dim) } as const;
  const multiplier = float("scaling.attn_factor", ranges.positive, 1);
  if (type !== "yarn") return { ...rope, ...magnitudeOf(multiplier) };
  // It holds config.json's attention_factor, the whole of the magnitude.
  const magnitude = float("scaling.yarn_attn_factor", ranges.positive, yarnMagnitude(factor));
  return { ...rope, scaling: readGgufYarn(metadata, factor, context), ...magnitudeOf(magnitude * multiplier) };
}

const ropeKey = (name: string) => `llama.rope.${name}`;

const floatsOf =
  (metadata: GgufMetadata) =>
  (name: string, { expected, accepts }: Range, absent: number): number =>
    metadata.float(ropeKey(name), expected.includes("f32") ? expected : `an f32 ${expected}`, accepts, absent);

function divisorsIn(metadata: GgufMetadata, dim: number): Pick<Rope, "divisors"> {
  if (!metadata.entries.has(ropeDivisorsKey)) return {};
  return { divisors: checkRopeDivisors(metadata.file, ropeDivisorsKey, metadata.floats(ropeDivisorsKey), dim) };
}

function readGgufYarn(metadata: GgufMetadata, factor: number, { contextLength }: RopeContext): YarnScaling {
  const float = floatsOf(metadata);
  // What other architectures make of these differs from one to the next; no LLaMA needs another value.
  for (const [name, value] of [
    ["scaling.yarn_ext_factor", 1],
    ["scaling.yarn_log_multiplier", 0],
  ] as const) {
    const given = float(name, ranges.any, value);
    if (given === value) continue;
    throw metadata.error(ropeKey(name), `must be ${value}, not ${given}`, "ERR_CRIA_UNSUPPORTED");
  }
  const betaFast = float("scaling.yarn_beta_fast", ranges.positive, yarnDefaults.betaFast);
  const betaSlow = float("scaling.yarn_beta_slow", ranges.positive, yarnDefaults.betaSlow);
  checkBetas(betaFast, betaSlow, ropeKey("scaling.yarn_beta_fast"), metadata.error.bind(metadata));
  const original = metadata.integer(ropeKey("scaling.original_context_length"), 1, mostContext, contextLength);
  const { truncate } = yarnDefaults;
  return { type: "yarn", factor, originalContextLength: original, betaFast, betaSlow, truncate };
}

/**
 * GGUF's keys of a rope whose pairs are adjacent, as {@link readGgufRope} and llama.cpp read them. Divisors, Llama
 * 3.1's among them, are a tensor: {@link ropeDivisors}.
 *
 * @throws CriaError ERR_CRIA_UNSUPPORTED for what GGUF has no key for
 */
export function ropeKeys({ theta, scale, dim, scaling, magnitude = 1 }: Rope): Record<string, Value> {
  const plain = { [ropeKey("dimension_count")]: u32(dim), [ropeKey("freq_base")]: f32(theta) };
  const scaled = (type: string, factor: number) => ({
    [ropeKey("scaling.type")]: string(type),
    [ropeKey("scaling.factor")]: f32(factor),
  });
  const multiplied = (by: number) => (by === 1 ? {} : { [ropeKey("scaling.attn_factor")]: f32(by) });
  if (scaling === undefined || scaling.type === "llama3") {
    return { ...plain, ...(scale === 1 ? {} : scaled("linear", scale)), ...multiplied(magnitude) };
  }
  if (scaling.type === "dynamic" || !scaling.truncate) {
    const what = scaling.type === "dynamic" ? "dynamic NTK" : "YaRN that does not truncate";
    throw new CriaError("ERR_CRIA_UNSUPPORTED", `rope scaling: must be one that GGUF has keys for, not ${what}`);
  }
  return {
    ...plain,
    ...scaled("yarn", scaling.factor),
    [ropeKey("scaling.original_context_length")]: u32(scaling.originalContextLength),
    [ropeKey("scaling.yarn_beta_fast")]: f32(scaling.betaFast),
    [ropeKey("scaling.yarn_beta_slow")]: f32(scaling.betaSlow),
    ...multiplied(magnitude / yarnMagnitude(scaling.factor)),
  };
}

/** Absent where it is 1, so that equal ropes are equal objects. */
const magnitudeOf = (magnitude: number) => (magnitude === 1 ? {} : { magnitude });

/**
 * The numbers of GGUF's `rope_freqs.weight`, by which the frequencies are divided.
 *
 * @param name of the tensor, or of the key
 * @param dim dimensions that turn, of which each pair has one
 * @throws CriaFileError where there is another number of them, or one is not above 0 and finite
 */
export function checkRopeDivisors(file: string, name: string, divisors: ArrayLike<number>, dim: number): number[] {
  if (divisors.length !== dim / 2) {
    throw new CriaFileError(file, name, `must have ${dim / 2} elements, one for each pair, not ${divisors.length}`);
  }
  const wrong = Array.from(divisors).findIndex((x) => !(x > 0 && x < Number.POSITIVE_INFINITY));
  if (wrong < 0) return Array.from(divisors);
  throw new CriaFileError(file, name, `its element ${wrong} must be above 0 and finite, not ${divisors[wrong]}`);
}

/**
 * Hugging Face's: `rope_theta`, `rope_scaling` and `partial_rotary_factor` of config.json, or `rope_parameters`, which
 * holds all three in newer ones. The scaling's type may be named `type` or `rope_type`.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a value of another type or out of its range, ERR_CRIA_UNSUPPORTED for another
 *   scaling than "default", "linear", "dynamic", "yarn" and "llama3", which it names
 */
export function readHuggingFaceRope(outer: JsonKeys, context: RopeContext): Rope {
  const name = outer.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const values = outer.object(name, undefined) ?? new JsonKeys(outer.file, {}, `${name}.`);
  const typeKey = !values.has("rope_type") && values.has("type") ? "type" : "rope_type";
  const type = values.string(typeKey, "default");
  const bases = type === "yarn" ? ranges.yarnTheta : ranges.theta;
  const theta = numberOf(values, "rope_theta", bases, numberOf(outer, "rope_theta", bases, defaultTheta));
  const rope = { theta, scale: 1, dim: rotaryDim(values, outer, context), pairing: "halves" } as const;

  const factor = () => numberOf(values, "factor", ranges.factor);
  const key = "original_max_position_embeddings";
  // What stands beside the scaling goes before what stands in it, in transformers too.
  const original = () => outer.integer(key, 1, mostContext, values.integer(key, 1, mostContext, context.contextLength));
  switch (type) {
    case "default":
      return rope;
    case "linear":
      return { ...rope, scale: factor() };
    case "dynamic":
      if (rope.dim < 4) throw values.error(typeKey, `must not be "dynamic" where ${rope.dim} dimensions turn`);
      return { ...rope, scaling: { type, factor: factor(), originalContextLength: context.contextLength } };
    case "yarn":
      return { ...rope, ...yarnOf(values, original(), context) };
    case "llama3":
      return { ...rope, scaling: llama3Of(values, original()) };
    default: {
      const problem = `must be "default", "linear", "dynamic", "yarn" or "llama3", not ${show(type)}`;
      throw values.error(typeKey, problem, "ERR_CRIA_UNSUPPORTED");
    }
  }
}

function rotaryDim(values: JsonKeys, outer: JsonKeys, { headDim }: RopeContext): number {
  const key = "partial_rotary_factor";
  const of = values.has(key) ? values : outer;
  const share = numberOf(of, key, ranges.share, 1);
  const dim = Math.trunc(headDim * share);
  if (dim >= 2 && dim % 2 === 0) return dim;
  const problem = `must give an even number of dimensions, at least 2, not ${dim} of ${headDim}`;
  throw of.error(key, problem);
}

/** transformers' defaults; without a factor it is how much longer the context is than the original. */
function yarnOf(values: JsonKeys, original: number, { contextLength }: RopeContext) {
  const factor = numberOf(values, "factor", ranges.factor, Math.max(1, contextLength / original));
  const scaling: YarnScaling = {
    type: "yarn",
    factor,
    originalContextLength: original,
    betaFast: numberOf(values, "beta_fast", ranges.positive, yarnDefaults.betaFast),
    betaSlow: numberOf(values, "beta_slow", ranges.positive, yarnDefaults.betaSlow),
    truncate: values.boolean("truncate", yarnDefaults.truncate),
  };
  checkBetas(scaling.betaFast, scaling.betaSlow, "beta_fast", (...of) => values.error(...of));
  const mscale = numberOf(values, "mscale", ranges.orNone, 0);
  const mscaleAll = numberOf(values, "mscale_all_dim", ranges.orNone, 0);
  const ratio =
    mscale && mscaleAll ? yarnMagnitude(factor, mscale) / yarnMagnitude(factor, mscaleAll) : yarnMagnitude(factor);
  return { scaling, ...magnitudeOf(numberOf(values, "attention_factor", ranges.positive, ratio)) };
}

function llama3Of(values: JsonKeys, originalContextLength: number): Llama3Scaling {
  const low = numberOf(values, "low_freq_factor", ranges.positive);
  const high = numberOf(values, "high_freq_factor", ranges.positive);
  if (high <= low) throw values.error("high_freq_factor", `must be above low_freq_factor, ${low}, not ${high}`);
  const factor = numberOf(values, "factor", ranges.factor);
  return { type: "llama3", factor, originalContextLength, lowFrequencyFactor: low, highFrequencyFactor: high };
}

/**
 * Meta's params.json: `rope_theta`, and Llama 3.1's scaling with `use_scaled_rope`.
 *
 * @throws CriaFileError for a value of another type or out of its range
 */
export function readMetaRope(values: JsonKeys, { headDim }: Pick<RopeContext, "headDim">): Rope {
  const theta = numberOf(values, "rope_theta", ranges.theta, defaultTheta);
  const rope = { theta, scale: 1, dim: headDim, pairing: "adjacent" } as const;
  if (!values.boolean("use_scaled_rope", false)) return rope;
  const { lowFrequencyFactor: low } = llama3Defaults;
  const factor = numberOf(values, "rope_scaling_factor", ranges.factor, llama3Defaults.factor);
  const high = numberOf(values, "rope_high_freq_factor", ranges.positive, llama3Defaults.highFrequencyFactor);
  if (high <= low) throw values.error("rope_high_freq_factor", `must be above ${low}, not ${high}`);
  return { ...rope, scaling: { type: "llama3", ...llama3Defaults, factor, highFrequencyFactor: high } };
}

/** A number of a JSON file; `absent` where there is none, which without one is an error. */
const numberOf = (of: JsonKeys, key: string, { expected, accepts }: Range, ...absent: number[]): number =>
  of.float(key, `a number ${expected}`, accepts, ...absent);
