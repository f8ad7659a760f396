/**
 * Which type each tensor of a quantised model gets: one for all matrices, or llama.cpp's mixtures, which give more bits
 * to the tensors whose errors cost most (llama_tensor_get_type in its llama-quant.cpp). Vectors stay f32.
 */
import type { Fallback } from "./fallbacks.js";
import { quantisedTypeFor } from "./quantized.js";
import { isFloatType, type LlamaConfig, type TensorInfo, type WeightType } from "./source.js";

/** llama.cpp's names of its mixtures. */
export type Mixture = "q3_K_S" | "q3_K_M" | "q3_K_L" | "q4_K_S" | "q4_K_M" | "q5_K_S" | "q5_K_M";

/** The types that GGUF has: all but cria's own, which GPTQ's and AWQ's weights are loaded in. */
export type GgufType = Exclude<WeightType, "q4_z">;

/** What a model can be quantised to. */
export type TargetType = GgufType | Mixture;

/** llama.cpp's ids of what a file mostly holds (llama_ftype); those of the K-quants alone are its small mixtures'. */
const fileTypes: Readonly<Record<TargetType, number>> = {
  f32: 0,
  f16: 1,
  bf16: 32,
  q8_0: 7,
  q4_0: 2,
  q4_1: 3,
  q5_0: 8,
  q5_1: 9,
  iq4_nl: 25,
  q2_K: 10,
  q3_K: 11,
  q4_K: 14,
  q5_K: 16,
  q6_K: 18,
  q3_K_S: 11,
  q3_K_M: 12,
  q3_K_L: 13,
  q4_K_S: 14,
  q4_K_M: 15,
  q5_K_S: 16,
  q5_K_M: 17,
};

export const targetTypes = Object.keys(fileTypes) as readonly TargetType[];

export const fileTypeOf = (type: TargetType): number => fileTypes[type];

/** A layer of a model. */
interface Layer {
  readonly index: number;
  readonly count: number;
}

/** The first eighth, the last eighth, and every third of those between. */
const needsMore = ({ index, count }: Layer): boolean => {
  const eighth = Math.floor(count / 8);
  return index < eighth || index >= Math.floor((7 * count) / 8) || (index - eighth) % 3 === 2;
};

/** What a mixture gives the tensors that it does not treat as all others. */
interface Rule {
  readonly others: GgufType;
  readonly values: (layer: Layer) => GgufType;
  readonly attentionOutput?: GgufType;
  readonly down: (layer: Layer) => GgufType;
}

const mixtures: Readonly<Record<Mixture, Rule>> = {
  q3_K_S: { others: "q3_K", values: () => "q3_K", down: () => "q3_K" },
  q3_K_M: {
    others: "q3_K",
    values: ({ index }) => (index < 2 ? "q5_K" : "q4_K"),
    attentionOutput: "q4_K",
    down: ({ index, count }) => (index < Math.floor(count / 16) ? "q5_K" : "q4_K"),
  },
  q3_K_L: { others: "q3_K", values: () => "q5_K", attentionOutput: "q5_K", down: () => "q5_K" },
  q4_K_S: {
    others: "q4_K",
    values: ({ index }) => (index < 4 ? "q5_K" : "q4_K"),
    down: ({ index, count }) => (index < Math.floor(count / 8) ? "q5_K" : "q4_K"),
  },
  q4_K_M: {
    others: "q4_K",
    values: (layer) => (needsMore(layer) ? "q6_K" : "q4_K"),
    down: (layer) => (needsMore(layer) ? "q6_K" : "q4_K"),
  },
  q5_K_S: { others: "q5_K", values: () => "q5_K", down: () => "q5_K" },
  q5_K_M: {
    others: "q5_K",
    values: (layer) => (needsMore(layer) ? "q6_K" : "q5_K"),
    down: (layer) => (needsMore(layer) ? "q6_K" : "q5_K"),
  },
};

const isMixture = (type: TargetType): type is Mixture => Object.hasOwn(mixtures, type);

/** Of a model of 80 layers, as the 70B are, eight heads share a value matrix: more bits for it cost little. */
const sharedValues = (type: GgufType, layers: number): GgufType =>
  layers === 80 && (type === "q3_K" || type === "q4_K") ? "q5_K" : type;

/** The type that rows of `cols` weights get where `type` is asked for. */
export const fittingType = (type: GgufType, cols: number): GgufType =>
  isFloatType(type) ? type : (quantisedTypeFor(type, cols) ?? "f16");

/** Of cria's own type the one that has as many steps, and a minimum in the zero's place. */
const ggufTypeOf = (type: WeightType): GgufType => (type === "q4_z" ? "q4_1" : type);

/** A tensor's type before its row's length is looked at. */
function wantedType(type: TargetType, name: string, config: Pick<LlamaConfig, "layers">, tied: boolean): GgufType {
  if (!isMixture(type)) return type;
  const rule = mixtures[type];
  // Where the embedding is the output matrix too it counts as that.
  if (name === "output.weight" || (tied && name === "token_embd.weight")) return "q6_K";
  const [, index, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  const layer = { index: Number(index), count: config.layers };
  if (part === "attn_v") return sharedValues(rule.values(layer), config.layers);
  if (part === "attn_output") return rule.attentionOutput ?? rule.others;
  if (part === "ffn_down") return rule.down(layer);
  return rule.others;
}

/** The inputs of a matrix, of which a column may be none, and each has one. */
export const inputsOf = ({ cols, columns }: TensorInfo): number =>
  columns === undefined ? cols : columns.reduce((most, input) => Math.max(most, input), -1) + 1;

/** The types of a model's tensors, in their order, and those that had to give way. */
export function plannedTypes(
  type: TargetType | undefined,
  config: Pick<LlamaConfig, "layers">,
  tensors: ReadonlyMap<string, TensorInfo>,
): { types: ReadonlyMap<string, GgufType>; fallbacks: readonly Fallback[] } {
  const tied = !tensors.has("output.weight");
  const gaveWay: Fallback[] = [];
  const types = new Map<string, GgufType>();
  for (const info of tensors.values()) {
    const { name, rows, type: own } = info;
    const cols = inputsOf(info);
    const wanted = rows === 1 ? "f32" : type === undefined ? ggufTypeOf(own) : wantedType(type, name, config, tied);
    const fitting = fittingType(wanted, cols);
    if (fitting !== wanted) gaveWay.push({ name, wanted, type: fitting, cols });
    types.set(name, fitting);
  }
  return { types, fallbacks: gaveWay };
}

/** The type that most of the weights have. */
export function prevailingType(tensors: Iterable<TensorInfo>): GgufType {
  const counts = new Map<GgufType, number>();
  for (const { type, rows, cols } of tensors) {
    const kept = ggufTypeOf(type);
    counts.set(kept, (counts.get(kept) ?? 0) + rows * cols);
  }
  return [...counts].reduce((most, count) => (count[1] > most[1] ? count : most))[0];
}
