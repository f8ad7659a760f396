/**
 * Options objects, which callers write by hand: read once, so that nothing that they do later changes what was checked.
 */
import { wrongArgument, wrongType } from "./errors.js";

/**
 * The options that a function knows, each read once.
 *
 * @param of what takes them, for the error: "generate"
 * @param names all that it knows; others are refused, for they are mistyped, or expected to do something
 * @param name of the argument itself
 * @throws TypeError where `options` is no plain object, or has others
 */
export function optionsOf<T extends object, Name extends keyof T & string>(
  of: string,
  options: T,
  names: readonly Name[],
  name: string = "options",
): Pick<T, Name> {
  requireObject(name, options);
  const unknown = Object.keys(options).find((key) => !(names as readonly string[]).includes(key));
  if (unknown !== undefined) throw wrongArgument(`${name}.${unknown}: is not an option of ${of}`);
  return picked(options, names);
}

/** Options of which none is left out. */
export type Complete<T> = { [Name in keyof T]-?: Exclude<T[Name], undefined> };

/** A copy of some properties, each read once; those that are undefined are left out. */
export function picked<T extends object, Name extends keyof T>(from: T, names: readonly Name[]): Pick<T, Name> {
  const copy: Partial<Pick<T, Name>> = {};
  for (const name of names) {
    const value = from[name];
    if (value !== undefined) copy[name] = value;
  }
  return copy as Pick<T, Name>;
}

/** @throws TypeError for what has no properties of its caller's: arrays, sets, dates and their like among it */
export function requireObject(name: string, value: unknown): asserts value is object {
  if (typeof value !== "object" || value === null || !isPlain(value)) throw wrongType(name, "an object", value);
}

function isPlain(value: object): boolean {
  try {
    return Object.prototype.toString.call(value) === "[object Object]";
  } catch {
    return false; // a proxy that was revoked
  }
}

/** @throws TypeError where it is given, and is none */
export function optionalSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw wrongType("signal", "an AbortSignal", signal);
}

/** @throws TypeError where it is given, and is none */
export function optionalFunction<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === "function") return value;
  throw wrongType(name, "a function", value);
}

/** @throws TypeError where it is given, and is none */
export function optionalFlag(name: string, value: boolean | undefined): boolean {
  if (value === undefined || typeof value === "boolean") return value ?? false;
  throw wrongType(name, "a boolean", value);
}
