import { EndingOpening } from "./chat.js";
import { CriaError, outOfRange, wrongType } from "./errors.js";
import { Generation } from "./generate.js";
import { type GenerateOptions, generateOptions } from "./generate-options.js";
import { optionsOf } from "./options.js";
import type { Speaker } from "./prompt.js";
import { type Segment, segmentTokens, tokenOf } from "./text/chat/segments.js";
import type { Tokenizer } from "./text/tokenizer.js";

export interface InfillOptions extends GenerateOptions {
  /** Whether the model reads what stands before the gap first, or what stands after it. Default: "prefix". */
  first?: "prefix" | "suffix" | undefined;
}

export const infillOptions = [...generateOptions, "first"] as const satisfies readonly (keyof InfillOptions)[];

/**
 * Fills a gap as Code Llama was taught it (Rozière et al. 2023, §2.3; Meta's `llama/generation.py`,
 * `infilling_prompt_tokens`), after Bavarian et al. 2022:
 *
 *   prefix first, PSM   <s> <PRE> prefix <SUF> suffix <MID> …
 *   suffix first, SPM   <s> <PRE> <SUF> suffix <MID> prefix …
 *
 * The markers are tokens, and each text is read by itself. The prefix begins with the vocabulary's space, as a text
 * does; the suffix does not.
 *
 * @throws as {@link Model.infill}
 */
export function infill(speaker: Speaker, prefix: string, suffix: string, options: InfillOptions): Generation {
  const { first = "prefix", ...known } = optionsOf("infill", options, infillOptions);
  if (typeof prefix !== "string") throw wrongType("prefix", "a string", prefix);
  if (typeof suffix !== "string") throw wrongType("suffix", "a string", suffix);
  if (first !== "prefix" && first !== "suffix") throw outOfRange("first", '"prefix" or "suffix"', first);
  const { tokenizer } = speaker;
  const [pre, suf, mid, eot] = ["PRE", "SUF", "MID", "EOT"].map((name) => markerOf(tokenizer, name)) as Four;
  const before: Segment[] = prefix === "" ? [] : [{ text: prefix }];
  const after: Segment[] = Array.from(tokenizer.encodeLiteral(suffix, { continuation: true }), (token) => ({ token }));
  const segments = [
    ...tokenOf(tokenizer.bos),
    ...(first === "prefix"
      ? [{ token: pre }, ...before, { token: suf }, ...after, { token: mid }]
      : [{ token: pre }, { token: suf }, ...after, { token: mid }, ...before]),
  ];
  const ends = { stops: [], stopTokens: [eot] };
  return new Generation(speaker, new EndingOpening(speaker, segmentTokens(segments, tokenizer), true, ends), known);
}

type Four = [number, number, number, number];

function markerOf(tokenizer: Tokenizer, name: string): number {
  const token = tokenizer.find(`▁<${name}>`) ?? tokenizer.find(`<${name}>`);
  if (token !== undefined) return token;
  throw new CriaError("ERR_CRIA_UNSUPPORTED", `model: must have the token <${name}> to fill a gap, as Code Llama has`);
}
