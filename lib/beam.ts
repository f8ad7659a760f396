import { finite, integer, noNumbers } from "./errors.js";
import type { FinishReason } from "./generate.js";
import { type GenerateOptions, planOf } from "./generate-options.js";
import { mostProbable } from "./logprobs.js";
import { optionsOf } from "./options.js";
import { fittingPrompt, type Speaker } from "./prompt.js";
import type { ForwardOptions, Sequence } from "./sequence.js";

/**
 * Past some thirty, texts get worse and not better (Koehn and Knowles 2017, §3.6); each beam has a sequence of its own.
 */
const mostBeams = 256;

/** Options of {@link Model.beamSearch}. */
export interface BeamSearchOptions
  extends Pick<GenerateOptions, "maxTokens" | "stopTokens" | "ignoreEos" | "signal" | "priority" | "onProgress"> {
  /** Texts that are followed at a time, 1 to 256. Default: 4. */
  beams?: number | undefined;
  /**
   * A score is a text's log-probability divided by the number of its tokens to the power of this, -10 to 10: 0 favours
   * short texts, 1 compares by the mean. Default: 1.
   */
  lengthPenalty?: number | undefined;
}

const beamOptions = [
  ...(["maxTokens", "stopTokens", "ignoreEos", "signal", "priority", "onProgress"] as const),
  ...(["beams", "lengthPenalty"] as const),
] as const satisfies readonly (keyof BeamSearchOptions)[];

/** A text that a beam search has found. */
export interface BeamCandidate {
  text: string;
  /** Without the one that ended the text. */
  tokens: number[];
  /** ln of the text's probability by the model's own distribution, that of the token that ended it among it. */
  logprob: number;
  /**
   * What the candidates are ranked by: `logprob` / tokens ^ `lengthPenalty`, the one that ended the text counted in.
   */
  score: number;
  finishReason: FinishReason;
}

/** A text that may go on. */
interface Beam {
  readonly sequence: Sequence;
  readonly tokens: readonly number[];
  readonly logprob: number;
  /** [vocab], after its last token. */
  readonly logits: Float32Array;
}

/** A beam, and a token that may follow. */
interface Step {
  readonly beam: Beam;
  readonly token: number;
  readonly logprob: number;
}

/**
 * Searches for the most probable texts after a prompt, by following the best few at a time (Graves 2012, "Sequence
 * transduction with recurrent neural networks", §2.5; scores and ending as in Hugging Face's `BeamSearchScorer` with
 * `early_stopping=False`).
 *
 * Each step ranks what may follow all beams. A text that ends is a candidate where it ranks among the first `beams`;
 * the best that go on are the next beams, in forks of the sequences that they follow. The search ends when there are
 * `beams` candidates and no beam, by its score so far, is better than the worst of them; with a `lengthPenalty` of at
 * most 0, no beam can then become so. One beam finds what greedy generation does.
 *
 * @param prompt a text, or tokens as they are
 * @returns at most `beams` candidates, the best first
 * @throws TypeError or RangeError for a wrong option
 * @throws CriaError ERR_CRIA_CONTEXT where the prompt is longer than the context, and as {@link Sequence.forward}
 */
export async function beamSearch(
  speaker: Speaker,
  prompt: string | Int32Array,
  options: BeamSearchOptions = {},
): Promise<BeamCandidate[]> {
  const known = optionsOf("beamSearch", options, beamOptions);
  const search = new BeamSearch(speaker, known, prompt?.length > 0);
  return search.run(fittingPrompt(speaker, prompt));
}

class BeamSearch {
  readonly #speaker: Speaker;
  readonly #beams: number;
  readonly #maxTokens: number;
  readonly #lengthPenalty: number;
  readonly #reading: ForwardOptions;
  /** Tokens that end a text, and why. */
  readonly #ends: ReadonlyMap<number, FinishReason>;
  /** Tokens that must not come. */
  readonly #banned: readonly number[];
  readonly #continuation: boolean;
  readonly #open = new Set<Sequence>();
  #live: Beam[] = []; // all of the same length, the best first
  readonly #candidates: BeamCandidate[] = []; // the best first

  constructor(speaker: Speaker, options: BeamSearchOptions, continuation: boolean) {
    const { beams = 4, lengthPenalty = 1 } = options;
    const { ends, size } = speaker.tokenizer;
    const { maxTokens, stopTokens, ignoreEos, signal, priority, onProgress } = planOf(options, size);
    this.#speaker = speaker;
    this.#beams = integer("beams", beams, 1, mostBeams);
    this.#maxTokens = maxTokens;
    this.#lengthPenalty = finite("lengthPenalty", lengthPenalty, -10, 10);
    this.#reading = { signal, priority, onProgress };
    this.#ends = new Map([
      ...stopTokens.map((token): [number, FinishReason] => [token, "stop"]),
      ...ends.map((token): [number, FinishReason] => [token, "eos"]),
    ]);
    this.#banned = ignoreEos ? ends : [];
    this.#continuation = continuation;
  }

  async run(prompt: Int32Array): Promise<BeamCandidate[]> {
    try {
      const sequence = this.#speaker.runtime.sequence();
      this.#open.add(sequence);
      const logits = await sequence.forward(prompt, "last", this.#reading);
      this.#live = [{ sequence, tokens: [], logprob: 0, logits }];
      for (;;) {
        const steps = this.#choose();
        if (this.#done(steps)) return this.#candidates;
        await this.#follow(steps);
      }
    } finally {
      for (const sequence of this.#open) sequence.dispose();
    }
  }

  /** Ranks what may follow the beams: what ends a text may be a candidate, the best that do not are the next beams. */
  #choose(): Step[] {
    const limit = this.#limit();
    const going: Step[] = [];
    for (const [rank, step] of this.#steps().entries()) {
      const { beam, token, logprob } = step;
      const end = this.#ends.get(token);
      if (end !== undefined) {
        if (rank < this.#beams) this.#add(beam.tokens, beam.tokens.length + 1, logprob, end);
      } else if (going.length < this.#beams) going.push(step);
    }
    if (limit === undefined) return going;
    for (const { beam, token, logprob } of going) {
      this.#add([...beam.tokens, token], beam.tokens.length + 1, logprob, limit);
    }
    return [];
  }

  /** Of each beam as many as there could be beams of it, beside those that end it; the most probable text first. */
  #steps(): Step[] {
    const count = this.#beams + this.#ends.size;
    const steps = this.#live.flatMap((beam) =>
      mostProbable(beam.logits, count).map(({ token, logprob }) => ({ beam, token, logprob: beam.logprob + logprob })),
    );
    if (steps.length === 0) throw noNumbers();
    // The sort is stable: of equal ones the better beam's, and of one beam's the lower token's, come first.
    return steps.filter(({ token }) => !this.#banned.includes(token)).sort((a, b) => b.logprob - a.logprob);
  }

  /** Why texts end with their next token, whatever it is, if they do. */
  #limit(): FinishReason | undefined {
    const { sequence, tokens } = this.#live[0]!;
    if (tokens.length + 1 === this.#maxTokens) return "length";
    return sequence.length === this.#speaker.runtime.contextLength ? "context" : undefined;
  }

  #done([best]: readonly Step[]): boolean {
    if (best === undefined) return true;
    if (this.#candidates.length < this.#beams) return false;
    return this.#score(best.logprob, best.beam.tokens.length + 1) <= this.#candidates.at(-1)!.score;
  }

  /** Reads the tokens of the steps, all together, each in its beam's sequence or, where others took that, in a fork. */
  async #follow(steps: readonly Step[]): Promise<void> {
    const taken = new Set<Sequence>();
    const sequences = steps.map(({ beam }) => {
      const sequence = taken.has(beam.sequence) ? beam.sequence.fork() : beam.sequence;
      taken.add(sequence);
      this.#open.add(sequence);
      return sequence;
    });
    for (const sequence of this.#open) {
      if (taken.has(sequence)) continue;
      sequence.dispose();
      this.#open.delete(sequence);
    }
    const { signal, priority } = this.#reading;
    this.#live = await Promise.all(
      steps.map(async ({ beam, token, logprob }, i) => {
        const sequence = sequences[i]!;
        const logits = await sequence.forward(Int32Array.of(token), "last", { signal, priority });
        return { sequence, tokens: [...beam.tokens, token], logprob, logits };
      }),
    );
  }

  /** @param length tokens whose log-probabilities were summed */
  #score(logprob: number, length: number): number {
    return logprob / length ** this.#lengthPenalty;
  }

  /** Adds a candidate, for which the worst may have to go. */
  #add(tokens: readonly number[], length: number, logprob: number, finishReason: FinishReason): void {
    const score = this.#score(logprob, length);
    const better = this.#candidates.findIndex((other) => other.score < score);
    const place = better < 0 ? this.#candidates.length : better;
    if (place >= this.#beams) return;
    const text = this.#text(tokens);
    this.#candidates.splice(place, 0, { text, tokens: [...tokens], logprob, score, finishReason });
    this.#candidates.length = Math.min(this.#candidates.length, this.#beams);
  }

  #text(tokens: readonly number[]): string {
    const decoder = this.#speaker.tokenizer.decoder({ continuation: this.#continuation });
    return tokens.map((token) => decoder.push(token)).join("") + decoder.end();
  }
}
