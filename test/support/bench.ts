import { onTestFinished, vi } from "vitest";

import { native } from "../../lib/native.js";

/** What memory is said to read a second: measuring the limits takes a while, and half a gigabyte. */
export const readRate = 2 ** 29;

/** Has every limit said and not measured, until the test is over. All but reading are out of reach. */
export function skipLimits(): void {
  const spy = vi.spyOn(native, "measureLimit");
  spy.mockImplementation(async (_device, limit, samples) => {
    return new Float64Array(samples).fill(limit === "read" ? readRate : 2 ** 50);
  });
  onTestFinished(() => spy.mockRestore());
}
