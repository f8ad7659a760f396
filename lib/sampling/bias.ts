import { integer, outOfRange, wrongType } from "../errors.js";
import { requireObject } from "../options.js";

/**
 * What is added to the logits of some tokens, by id: a number from -1e30 to 1e30, or -Infinity, which bans the token.
 */
export type LogitBias = Readonly<Record<number, number>> | ReadonlyMap<number, number>;

/** Far from what float32 can hold, so that a bias keeps its tokens' order, and far above any logit. */
const most = 1e30;

/** @throws TypeError or RangeError if it is not what {@link LogitBias} says */
export function biasMap(bias: LogitBias): ReadonlyMap<number, number> {
  const entries: Iterable<[unknown, unknown]> = bias instanceof Map ? bias : entriesOf(bias);
  const map = new Map<number, number>();
  for (const [id, value] of entries) map.set(integer("logitBias", id, 0), biasOf(value));
  return map;
}

/** An object's keys are strings: those that are not how a token's id is written are names of something else. */
function entriesOf(bias: object): [number, unknown][] {
  requireObject("logitBias", bias);
  return Object.entries(bias).map(([id, value]) => {
    if (!/^(0|[1-9]\d*)$/.test(id)) throw outOfRange("logitBias", "of tokens' ids", id);
    return [Number(id), value];
  });
}

function biasOf(value: unknown): number {
  if (typeof value !== "number") throw wrongType("logitBias", "of numbers", value);
  if (value === Number.NEGATIVE_INFINITY || Math.abs(value) <= most) return value;
  throw outOfRange("logitBias", `of numbers from -${most} to ${most}, or -Infinity`, value);
}
