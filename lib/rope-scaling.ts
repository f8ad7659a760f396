/**
 * How far each position turns queries and keys, in models that were stretched to contexts longer than those that they
 * were first trained with. Pair i of a head's rotating dimensions turns by position · fᵢ, where fᵢ = θ^(−2i / dim)
 * before any scaling (Su et al. 2021). Everything here is in float64.
 *
 * The formulas were compared with those of transformers (modeling_rope_utils.py), of llama.cpp (ggml_rope_ext, and its
 * converter for `rope_freqs.weight`) and of Meta's reference for Llama 3.1.
 */
export interface Rope {
  /** θ, the base of the frequencies. */
  readonly theta: number;
  /** Positions are divided by it (linear scaling, Chen et al. 2023); 1 for none. */
  readonly scale: number;
  /** How many dimensions of each head turn. */
  readonly dim: number;
  /** Pairs are (2i, 2i + 1), as Meta and GGUF store them, or (i, i + dim / 2), as Hugging Face does. */
  readonly pairing: "adjacent" | "halves";
  /** What is done to the frequencies beyond `scale`. Absent for nothing. */
  readonly scaling?: RopeScaling;
  /** [dim / 2], each above 0: the frequencies are divided by these, before `scaling`. Absent for 1. */
  readonly divisors?: readonly number[];
  /** What queries and keys are multiplied by, where they turn: YaRN's attention factor. Absent for 1. */
  readonly magnitude?: number;
}

/** A scaling that treats frequencies differently. Contexts are in tokens; a factor is the stretch, at least 1. */
export type RopeScaling = DynamicScaling | YarnScaling | Llama3Scaling;

/**
 * Dynamic NTK: θ grows with the context, θ · (factor · L / L₀ − (factor − 1))^(dim / (dim − 2)), where L₀ is the
 * original context and L the one in use. Elsewhere L is the text's length so far; here it is the context that the model
 * was opened with, or L₀ where that is shorter: keys in the cache were turned when they were read, and would else stand
 * beside others that were turned by other frequencies.
 */
export interface DynamicScaling {
  readonly type: "dynamic";
  readonly factor: number;
  readonly originalContextLength: number;
}

/**
 * YaRN (Peng et al. 2023, §3.2): a pair that turns more than `betaFast` times in the original context keeps its
 * frequency, one that turns less than `betaSlow` times has it divided by the factor, and a ramp over the pairs lies
 * between. `truncate` puts the ramp's ends on whole pairs.
 */
export interface YarnScaling {
  readonly type: "yarn";
  readonly factor: number;
  readonly originalContextLength: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  readonly truncate: boolean;
}

/**
 * Llama 3.1: a wave shorter than originalContextLength / highFrequencyFactor keeps its frequency, one longer than
 * originalContextLength / lowFrequencyFactor has it divided by the factor, and those between are interpolated.
 */
export interface Llama3Scaling {
  readonly type: "llama3";
  readonly factor: number;
  readonly originalContextLength: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
}

/** One whose frequencies depend on no context. */
export type FixedRope = Omit<Rope, "scaling"> & { readonly scaling?: Exclude<RopeScaling, DynamicScaling> };

/** The rope of a model that is opened with that context: of dynamic NTK the θ is then fixed, and all else stays. */
export function ropeInContext(rope: Rope, contextLength: number): FixedRope {
  const { scaling, ...fixed } = rope;
  if (scaling === undefined) return fixed;
  if (scaling.type !== "dynamic") return { ...fixed, scaling };
  const { factor, originalContextLength } = scaling;
  const length = Math.max(contextLength, originalContextLength);
  const stretch = (factor * length) / originalContextLength - (factor - 1);
  return { ...fixed, theta: rope.theta * stretch ** (rope.dim / (rope.dim - 2)) };
}

/**
 * fᵢ for each of the dim / 2 pairs; undefined where they are θ^(−2i / dim) / scale, which the op computes itself. Of
 * dynamic NTK in its original context.
 */
export function ropeFrequencies(rope: Rope): Float64Array | undefined {
  const { theta, scale, dim, scaling, divisors } = ropeInContext(rope, 1);
  if (scaling === undefined && divisors === undefined) return undefined;
  const plain = Float64Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim) / (divisors?.[i] ?? 1));
  const scaled = scaling?.type === "yarn" ? yarn(plain, theta, scaling) : plain.map((f) => llama3(f, scaling));
  return scaled.map((f) => f / scale);
}

/**
 * What the frequencies are divided by where the scaling is one that divisors can say, Llama 3.1's, or they are given as
 * such; undefined where nothing divides them. This is how GGUF has it.
 */
export function ropeDivisors(rope: Rope): readonly number[] | undefined {
  if (rope.scaling?.type !== "llama3") return rope.divisors;
  const { theta, dim } = rope;
  return Array.from(ropeFrequencies({ ...rope, scale: 1 })!, (f, i) => theta ** ((-2 * i) / dim) / f);
}

/** YaRN's magnitude, 0.1 · multiplier · ln(factor) + 1 (Peng et al. 2023, eq. 22, with their multiplier of 1). */
export function yarnMagnitude(factor: number, multiplier = 1): number {
  return factor <= 1 ? 1 : 0.1 * multiplier * Math.log(factor) + 1;
}

function yarn(plain: Float64Array, theta: number, scaling: YarnScaling): Float64Array {
  const { factor, originalContextLength, betaFast, betaSlow, truncate } = scaling;
  const dim = 2 * plain.length;
  // The pair, not whole, that turns so many times in the original context.
  const pairOf = (turns: number) =>
    (dim * Math.log(originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, dim - 1);
  // A ramp of no width is a step; its least is llama.cpp's, and what transformers adds to one of 0.
  const width = Math.max(high - low, 0.001);
  return plain.map((f, i) => {
    const kept = 1 - Math.min(1, Math.max(0, (i - low) / width));
    return (f / factor) * (1 - kept) + f * kept;
  });
}

function llama3(f: number, scaling: Llama3Scaling | undefined): number {
  if (scaling === undefined) return f;
  const { factor, originalContextLength, lowFrequencyFactor, highFrequencyFactor } = scaling;
  // Turns in the original context: the wave's length is 2π / f.
  const turns = (originalContextLength * f) / (2 * Math.PI);
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  const share = Math.min(1, Math.max(0, kept));
  return (f / factor) * (1 - share) + f * share;
}
