import { outOfRange, wrongArgument, wrongType } from "./errors.js";

/**
 * A copy of a caller's tokens, each from 0 to `vocab` - 1. It is made first and then checked: the caller may write to
 * his own at any time, and methods of a subclass may say what they like.
 *
 * @throws TypeError where they are no Int32Array, RangeError that names the one that is no token
 */
export function tokensOf(name: string, tokens: Int32Array, vocab: number): Int32Array<ArrayBuffer> {
  if (!(tokens instanceof Int32Array)) throw wrongType(name, "an Int32Array", tokens);
  const copy = copyOf(name, tokens);
  const wrong = copy.findIndex((token) => token < 0 || token >= vocab);
  if (wrong >= 0) throw outOfRange(`${name}[${wrong}]`, `a token from 0 to ${vocab - 1}`, copy[wrong]);
  return copy;
}

function copyOf(name: string, tokens: Int32Array): Int32Array<ArrayBuffer> {
  try {
    return new Int32Array(tokens); // by what the engine knows of it, through no method of its own
  } catch {
    throw wrongArgument(`${name}: must have its memory, which was transferred to another`);
  }
}

/** A new array of the one's tokens and then the other's. */
export function joined(first: Int32Array, second: Int32Array): Int32Array {
  const all = new Int32Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
