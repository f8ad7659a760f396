import { joined } from "../../tokens.js";
import type { Tokenizer } from "../tokenizer.js";

/**
 * A part of a prompt: a text, or a token. No text becomes a control token, nor a user-defined one, whatever it says;
 * and what stands on both sides of a token never merges.
 */
export type Segment = { readonly text: string } | { readonly token: number };

/** A token that may not be there: nothing then. */
export const tokenOf = (token: number | undefined): Segment[] => (token === undefined ? [] : [{ token }]);

/**
 * The tokens of segments. Each text is read by itself, as one that begins: after a token it gets the space that the
 * vocabulary puts before a text, as Meta's code and llama.cpp do it.
 *
 * @throws as {@link Tokenizer.encodeLiteral}
 */
export function segmentTokens(segments: readonly Segment[], tokenizer: Tokenizer): Int32Array {
  return segments
    .map((segment) => ("token" in segment ? Int32Array.of(segment.token) : tokenizer.encodeLiteral(segment.text)))
    .reduce(joined, new Int32Array(0));
}
