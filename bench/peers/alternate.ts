/** Cria and a peer measured in turn, A B A B: what disturbs a shared machine then disturbs both. */
import { performance } from "node:perf_hooks";

import { aborted } from "../../lib/errors.js";
import type { Ratio, Result } from "../schema.js";
import { median, spread } from "../statistics.js";
import type { Contender, Peer, Rates } from "./peer.js";

/** As many rounds as fit the time, from the least to the most. */
export interface Rounds {
  least: number;
  most: number;
  seconds: number;
}

/**
 * Has each contender run a round, again and again, only one of them at a time. Returns the rounds of each.
 *
 * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it, between two rounds
 */
export async function alternate<Each extends readonly Contender[]>(
  contenders: Each,
  { least, most, seconds }: Rounds,
  signal?: AbortSignal,
): Promise<{ -readonly [I in keyof Each]: Awaited<ReturnType<Each[I]["round"]>>[] }> {
  const rounds: Rates[][] = contenders.map(() => []);
  const until = performance.now() + seconds * 1e3;
  for (let done = 0; done < least || (done < most && performance.now() < until); done++) {
    for (const [i, contender] of contenders.entries()) {
      if (signal?.aborted) throw aborted("the measuring", signal);
      rounds[i]!.push(await contender.round());
    }
  }
  return rounds as { -readonly [I in keyof Each]: Awaited<ReturnType<Each[I]["round"]>>[] };
}

/**
 * A peer's results: as cria's of the same run, against the same limits.
 *
 * @param ours cria's
 * @param modelBytes of the weights, over which the resident memory of both is told
 */
export function peerResults(
  ours: readonly Result[],
  { by, isa, loaded }: Omit<Peer, keyof Contender>,
  rounds: readonly Rates[],
  modelBytes: number,
): Result[] {
  const samples: Readonly<Record<string, readonly number[]>> = {
    prefill: rounds.map(({ prefill }) => prefill),
    decode: rounds.map(({ decode }) => decode),
    ...(loaded && { load: [loaded.seconds], resident: [loaded.residentBytes / modelBytes] }),
  };
  return ours.flatMap((result) => {
    const theirs = samples[result.name];
    if (theirs === undefined) return [];
    const value = median(theirs);
    const share = result.limit === null ? null : value / result.limit;
    return [{ ...result, by, isa, value, share, spread: spread(theirs), samples: theirs.length }];
  });
}

/** Of tokens a second, cria's median over the peer's. */
export function ratios(ours: readonly Result[], theirs: readonly Result[]): Ratio[] {
  return ours.flatMap(({ name, isa, threads, unit, value, at }) => {
    const other = theirs.find((result) => result.name === name);
    if (unit !== "tok/s" || other === undefined) return [];
    return [{ name, peer: `${other.by}, ${other.isa}`, isa, threads, value: value / other.value, ...(at && { at }) }];
  });
}
