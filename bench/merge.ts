/** Several runs on one machine as one report: a run has one prompt, one context, and either models or ops. */
import { outOfRange } from "../lib/errors.js";
import { identity } from "./compare.js";
import { betterOf } from "./limits.js";
import type { Report } from "./schema.js";

/**
 * Of what was measured twice, the later report's figure stands; the limits are the best of all, and the date is the last.
 *
 * @throws RangeError where the reports are of different machines
 */
export function mergeReports(reports: readonly [Report, ...Report[]]): Report {
  const [first, ...others] = reports;
  return others.reduce(merged, first);
}

function merged(before: Report, after: Report): Report {
  const machine = ({ machine: { processor, cores } }: Report) => `${processor}, ${cores} cores`;
  if (machine(before) !== machine(after))
    throw outOfRange("from", `reports of one machine, ${machine(before)}`, machine(after));
  const commit = each(before.commit, after.commit, ", ");
  return {
    ...after,
    ...(commit !== undefined && { commit }),
    command: each(before.command, after.command, "\n")!,
    limits: betterOf(before.limits, after.limits),
    results: lastOfEach([...before.results, ...after.results], identity),
    ratios: lastOfEach([...(before.ratios ?? []), ...(after.ratios ?? [])], ({ peer, ...ratio }) =>
      identity({ ...ratio, by: peer }),
    ),
  };
}

/** What either says, once. */
function each(before: string | undefined, after: string | undefined, between: string): string | undefined {
  const parts = [...(before?.split(between) ?? []), ...(after?.split(between) ?? [])];
  return parts.length === 0 ? undefined : [...new Set(parts)].join(between);
}

function lastOfEach<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return [...new Map(items.map((item) => [keyOf(item), item])).values()];
}
