/** Of samples that a shared machine disturbs: medians, and how far they spread. All reject an empty list and NaN. */

/** The value that `share` of the sorted samples lie below, linear between two of them. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = checked(samples).sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  const above = sorted[Math.ceil(at)]!;
  return below + (above - below) * (at - Math.floor(at));
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** (90th percentile - 10th) / median. */
export const spread = (samples: readonly number[]): number =>
  (percentile(samples, 0.9) - percentile(samples, 0.1)) / median(samples);

export const best = (samples: readonly number[]): number => Math.max(...checked(samples));

function checked(samples: readonly number[]): number[] {
  if (samples.length > 0 && samples.every((sample) => !Number.isNaN(sample))) return [...samples];
  throw new RangeError(`samples: must be one or more numbers, not [${samples.join(", ")}]`);
}
