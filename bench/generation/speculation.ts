/**
 * What prompt lookup brings on a text that copies its prompt, beside plain decoding of the same tokens.
 *
 * Random weights copy nothing, so the tokens are given: each is chosen from its logits as ever, and the one that the copy
 * has in its place is then taken instead. All else is a generation's own: looking up, reading guesses and forgetting
 * them, sampling, and the pace, which finds by its own times how many to guess. So what is measured is how fast a text
 * comes of which all guesses are right but those where the copy leaves its source: once a passage. How many are right in
 * a real text is not.
 */
import { performance } from "node:perf_hooks";

import type { Choice, Chooser } from "../../lib/chooser.js";
import { Xoshiro128 } from "../../lib/random.js";
import type { Runtime } from "../../lib/runtime.js";
import { Sampler } from "../../lib/sampling/sampler.js";
import { Pace } from "../../lib/speculation/pace.js";
import { PromptLookup } from "../../lib/speculation/prompt-lookup.js";
import { type SpeculationStatistics, SpeculativeSource } from "../../lib/speculation/speculative-source.js";
import { PlainSource, type TokenSource } from "../../lib/token-source.js";
import { cpuOf } from "../machine.js";
import type { Result } from "../schema.js";
import { median, spread } from "../statistics.js";

/** Tokens of the prompt, of which the text then copies passages in another order, and of a passage. */
const promptTokens = 256;
const passage = 48;

/** Tokens that are chosen, but for the first: two passages plain, and four with speculation, which are over sooner. */
const chosen = { plain: 2 * passage, speculating: 4 * passage } as const;

/** In turn, plain and with speculation: what disturbs a shared machine then disturbs both. */
const rounds = 3;

/** At most so many guesses at a time, as `speculate: "prompt"` has it. */
const longest = 15;

/** Tokens of the longest text. */
export const speculationContext = promptTokens + chosen.speculating + 1;

/** A model that was opened, and how its results name it. */
export interface SpeculationOptions {
  readonly runtime: Runtime;
  readonly name: string;
  /** That most of the weights have. */
  readonly format: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * "speculation/plain" and "speculation/prompt" in tokens a second, "speculation/gain", one over the other round by round,
 * and "speculation/accepted", the share of the guesses that were right.
 *
 * The runtime's context must hold {@link speculationContext} tokens.
 */
export async function measureSpeculation({ runtime, name, format, signal }: SpeculationOptions): Promise<Result[]> {
  const [plain, speculating, accepted]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    const text = copyingText(runtime.config.vocab, round);
    plain.push((await decode(runtime, text, chosen.plain, false, signal)).rate);
    const { rate, speculation } = await decode(runtime, text, chosen.speculating, true, signal);
    speculating.push(rate);
    const { proposed, accepted: right } = speculation!;
    accepted.push(proposed === 0 ? 0 : right / proposed);
  }
  const { isa, threads } = cpuOf(runtime.device);
  const result = (what: string, samples: readonly number[], unit: Result["unit"], model: string): Result => ({
    name: `speculation/${what}`,
    by: "cria",
    isa,
    threads,
    value: median(samples),
    unit,
    limit: null,
    share: null,
    spread: spread(samples),
    samples: samples.length,
    model,
    at: { model: name, format, prompt: promptTokens, passage },
  });
  const copied = `of a text that copies passages of ${passage} tokens from its prompt`;
  return [
    result("plain", plain, "tok/s", `one token a run, ${copied}`),
    result("prompt", speculating, "tok/s", `prompt lookup, up to ${longest} guesses a run, ${copied}`),
    result(
      "gain",
      speculating.map((rate, i) => rate / plain[i]!),
      "x",
      "with prompt lookup over plain, in the same round",
    ),
    result("accepted", accepted, "x", "guesses that were right, over all that were read"),
  ];
}

/** A prompt of random tokens, and passages of it from its end to its start. */
function copyingText(vocab: number, seed: number): { prompt: Int32Array; copy: Int32Array } {
  const random = Xoshiro128.fromSeed(seed);
  const prompt = Int32Array.from({ length: promptTokens }, () => random.next() % vocab);
  const copy: number[] = [];
  for (let end = promptTokens; copy.length <= chosen.speculating; end -= passage) {
    copy.push(...prompt.subarray(end - passage, end));
  }
  return { prompt, copy: Int32Array.from(copy) };
}

/** Decodes `count` tokens after the first of the copy, which follows the prompt. The rate is in tokens a second. */
async function decode(
  runtime: Runtime,
  { prompt, copy }: ReturnType<typeof copyingText>,
  count: number,
  speculate: boolean,
  signal: AbortSignal | undefined,
): Promise<{ rate: number; speculation: SpeculationStatistics | undefined }> {
  using sequence = runtime.sequence();
  await sequence.forward(prompt, "last", { signal });
  const chooser = new Copier(copy.subarray(1));
  const guessing = { proposer: new PromptLookup(), pace: new Pace(longest, true) };
  const limits = { contextLength: runtime.contextLength, maxTokens: count + 1, signal };
  const source: TokenSource = speculate
    ? new SpeculativeSource(sequence, prompt, chooser, guessing, limits)
    : new PlainSource(sequence, chooser, { signal }, undefined);
  let last = copy[0]!;
  const started = performance.now();
  for (let i = 0; i < count; i++) last = (await source.next(last)).token;
  return { rate: (count / (performance.now() - started)) * 1e3, speculation: source.speculation };
}

/** Chooses as a greedy sampler does, and then says what it is to copy. */
class Copier implements Pick<Chooser, "choose"> {
  readonly #sampler = new Sampler({ temperature: 0 });
  readonly #copy: Int32Array;
  #said = 0;

  constructor(copy: Int32Array) {
    this.#copy = copy;
  }

  choose(logits: Float32Array): Choice {
    this.#sampler.accept(this.#sampler.sample(logits));
    return { token: this.#copy[this.#said++]!, score: undefined };
  }
}
