import type { CriaFileError } from "../errors.js";
import type { LlamaConfig } from "./source.js";

/**
 * What is still a LLaMA and not a damaged file: each some times the largest that was published (Llama 3.1 405B: 126
 * layers, 128 heads, dimensions of 16,384 and 53,248; 128,256 pieces). Products of any two stay far below 2^53.
 */
export const most = {
  layers: 1024,
  dim: 65_536,
  heads: 1024,
  ffn: 262_144,
  vocab: 1_048_576,
  /** Up to here every position is exact as a float32. */
  contextLength: 2 ** 24,
} as const;

/** What the attention and RoPE kernels take: whole AVX2 registers, up to twice the 128 of the published LLaMAs. */
const headDims = { multiple: 8, most: 256 } as const;

/** The integers of a model's file, by key. */
interface IntegerKeys {
  /** An integer in [min, max], or what is given for a key that is absent. @throws CriaFileError for any other */
  integer<Absent = never>(key: string, min: number, max: number, ...absent: Absent[]): number | Absent;
  error(key: string, problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError;
}

/** A format's keys for a LLaMA's heads. One that has none for `headDim` has dim / heads. */
interface HeadKeys {
  readonly dim: string;
  readonly heads: string;
  readonly kvHeads: string;
  readonly headDim?: string;
}

/**
 * Reads the dimension of a LLaMA and its heads.
 *
 * @throws CriaFileError that names the key at fault: ERR_CRIA_FILE where they are no LLaMA's, ERR_CRIA_UNSUPPORTED for
 *   a dimension of a head that no kernel takes
 */
export function readHeads(
  keys: IntegerKeys,
  names: HeadKeys,
): Pick<LlamaConfig, "dim" | "heads" | "kvHeads" | "headDim"> {
  const dim = keys.integer(names.dim, 1, most.dim);
  const heads = keys.integer(names.heads, 1, most.heads);
  const given = names.headDim === undefined ? undefined : keys.integer(names.headDim, 1, most.dim, undefined);
  if (given === undefined && dim % heads !== 0) {
    throw keys.error(names.heads, `must divide ${names.dim}, ${dim}, not be ${heads}`);
  }
  const kvHeads = keys.integer(names.kvHeads, 1, heads, heads);
  if (heads % kvHeads !== 0) throw keys.error(names.kvHeads, `must divide the ${heads} heads, not be ${kvHeads}`);
  const headDim = given ?? dim / heads;
  if (headDim % headDims.multiple !== 0 || headDim > headDims.most) {
    const wanted = `a multiple of ${headDims.multiple} dimensions up to ${headDims.most}`;
    const problem = `must give heads of ${wanted}, not of ${headDim}`;
    throw keys.error(given === undefined ? names.heads : names.headDim!, problem, "ERR_CRIA_UNSUPPORTED");
  }
  return { dim, heads, kvHeads, headDim };
}
