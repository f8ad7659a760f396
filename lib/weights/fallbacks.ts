import { type WeightType, weightFormats } from "./source.js";

/** A matrix that could not be of the type that was wanted for it, for its rows are no whole number of its blocks. */
export interface Fallback {
  readonly name: string;
  readonly wanted: WeightType;
  /** The one that it has instead. */
  readonly type: WeightType;
  /** Weights of a row. */
  readonly cols: number;
}

/** What people are told of them: a line for each type that gave way to another, however many matrices there are. */
export function fallbackWarnings(fallbacks: readonly Fallback[]): string[] {
  const groups = new Map<string, Fallback[]>();
  for (const fallback of fallbacks) {
    const key = `${fallback.wanted} ${fallback.type}`;
    groups.set(key, [...(groups.get(key) ?? []), fallback]);
  }
  return [...groups.values()].map(warningOf);
}

function warningOf(fallbacks: readonly Fallback[]): string {
  const [{ name, wanted, type }] = fallbacks as [Fallback];
  const { length } = fallbacks;
  const which = length === 1 ? `${name} is ${type}` : `${length} matrices, the first ${name}, are ${type}`;
  const cols = [...new Set(fallbacks.map((each) => each.cols))].join(" and ");
  return `${which}, not ${wanted}: rows of ${cols} weights are no whole number of blocks of ${weightFormats[wanted].block}`;
}
