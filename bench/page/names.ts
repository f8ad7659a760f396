/** What a result's name and place say. */
import type { Result } from "../schema.js";
import { fixed } from "./format.js";

/** A kernel's result, its name "op/shape/tokens" taken apart. */
export interface OpResult extends Result {
  op: string;
  /** "7b.gate_up" */
  matrix: string;
  /** By what else results of that name differ: "bf16". */
  variant: string;
  tokens: number;
}

type At = NonNullable<Result["at"]>;

const opName = /^([^/]+)\/([^/]+)\/(\d+)$/;

/** Results of kernels. */
export function opResults(results: readonly Result[]): OpResult[] {
  const named = results.flatMap((result) => {
    const [, op, matrix, tokens] = opName.exec(result.name) ?? [];
    return op && matrix && tokens ? [{ ...result, op, matrix, tokens: Number(tokens) }] : [];
  });
  return [...grouped(named, ({ name }) => name).values()].flatMap((alike) => {
    const common = commonOf(alike.map(({ at }) => placeOf(at)));
    return alike.map((result) => ({ ...result, variant: without(placeOf(result.at), common).join(", ") }));
  });
}

/** Where an op was run: "7b.gate_up, bf16". */
export const shapeOf = ({ matrix, variant }: OpResult): string => (variant === "" ? matrix : `${matrix}, ${variant}`);

/** "prefill", "decode", "load": whatever is not a kernel's. */
export function wholeResults(results: readonly Result[]): Result[] {
  return results.filter(({ name }) => !opName.test(name));
}

/** Where a result was read, in words: "7b", "q4_0", "context 2,048". What says itself what it is needs no name. */
export function placeOf(at: At | undefined): string[] {
  return Object.entries(at ?? {}).map(([key, value]) => (selfNamed.has(key) ? shown(value) : `${key} ${shown(value)}`));
}

const shown = (value: string | number) => (Number.isInteger(value) ? fixed(value as number, 0) : String(value));

const selfNamed = new Set(["model", "shape", "format"]);

/** What is said of all places. */
export function commonOf(places: readonly (readonly string[])[]): string[] {
  const [first = [], ...others] = places;
  return first.filter((part) => others.every((place) => place.includes(part)));
}

export const without = (place: readonly string[], parts: readonly string[]): string[] =>
  place.filter((part) => !parts.includes(part));

/** Those read on as many threads as any was: the limits are of so many. */
export function onMostThreads<T extends Result>(results: readonly T[]): T[] {
  const most = mostThreads(results);
  return results.filter(({ threads }) => threads === most);
}

export function mostThreads(results: readonly Result[]): number {
  return results.reduce((most, { threads }) => Math.max(most, threads), 0);
}

/** By a key, in the order in which the keys first come. */
export function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

const isaOrder = ["scalar", "avx2", "avx512"];

/** Instruction sets, each once, from the narrowest to the widest; others last. */
export function isasOf(results: readonly Result[]): string[] {
  const rank = (isa: string) => (isaOrder.includes(isa) ? isaOrder.indexOf(isa) : isaOrder.length);
  return [...new Set(results.map(({ isa }) => isa))].sort((a, b) => rank(a) - rank(b));
}
