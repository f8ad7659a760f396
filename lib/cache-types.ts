import { outOfRange, wrongType } from "./errors.js";
import type { CacheType } from "./native.js";
import { optionsOf } from "./options.js";

/** The types of a cache's keys and of its values. */
export interface CacheTypes {
  readonly keys: CacheType;
  readonly values: CacheType;
}

/** One type for both, or a type for each. */
export type CacheOption = CacheType | CacheTypes;

/** Every type that keys and values are kept in; q8_0 takes 8.5 bits an element. */
export const cacheTypes: readonly CacheType[] = ["f32", "f16", "q8_0"];

/** @throws TypeError or RangeError where the option is none */
export function cacheTypesOf(cache: CacheOption = "f16"): CacheTypes {
  if (typeof cache === "string") {
    const type = cacheType("cache", cache);
    return { keys: type, values: type };
  }
  if (typeof cache !== "object" || cache === null)
    throw wrongType("cache", `one of ${names}, or {keys, values}`, cache);
  const { keys, values } = optionsOf("loadModel", cache, ["keys", "values"], "cache");
  return { keys: cacheType("cache.keys", keys), values: cacheType("cache.values", values) };
}

const names = cacheTypes.join(", ");

function cacheType(name: string, type: CacheType): CacheType {
  if (cacheTypes.includes(type)) return type;
  throw (typeof type === "string" ? outOfRange : wrongType)(name, `one of ${names}`, type);
}
