/**
 * How likely a model finds each of several completions of a context (Touvron et al. 2023, section 3): which one it
 * would choose says what it knows.
 */
import { CriaError, outOfRange, wrongType } from "./errors.js";
import { logitsByToken } from "./logits.js";
import { logProbability } from "./logprobs.js";
import type { Model } from "./model.js";
import { optionalSignal, optionsOf } from "./options.js";
import type { Sequence } from "./sequence.js";
import { afterBos } from "./text/tokenizer.js";

/** Options of {@link Model.score}. */
export interface ChoiceOptions {
  /** Stops the work within an op; ERR_CRIA_ABORTED is then thrown. */
  signal?: AbortSignal | undefined;
}

/** What is known of a choice. Logarithms are natural. */
export interface ChoiceScore {
  /** ln P(choice | context): the sum over its tokens. */
  sum: number;
  /** The sum over the choice's characters (code points), those of leading white space not counted (Gao et al. 2021). */
  perCharacter: number;
  /** ln P(choice | context) - ln P(choice | "Answer:"), which takes out how likely it is anyhow (Brown et al. 2020). */
  normalised: number;
  /** Tokens that the sum is over. */
  tokens: number;
}

/** The rules by which a choice may win. */
export type ScoringRule = "sum" | "perCharacter" | "normalised";
export const scoringRules: readonly ScoringRule[] = ["sum", "perCharacter", "normalised"];

/** What {@link Model.score} finds. */
export interface Scores {
  /** In the order of the choices. */
  choices: ChoiceScore[];
  /** By each rule the index of the best; of equals the first. */
  best: Record<ScoringRule, number>;
}

/** What Touvron et al. (2023), and Brown et al. (2020) before them, ask without a context. */
const noContext = "Answer:";

/** {@link Model.score} */
export async function scoreChoices(
  model: Model,
  context: string,
  choices: readonly string[],
  options: ChoiceOptions = {},
): Promise<Scores> {
  const { signal } = optionsOf("score", options, ["signal"]);
  optionalSignal(signal);
  check(context, choices);
  const conditional = await logLikelihoods(model, context, choices, signal);
  const unconditional = await logLikelihoods(model, noContext, choices, signal);
  const scores = conditional.map(({ sum, tokens }, i): ChoiceScore => {
    const characters = [...choices[i]!.trimStart()].length;
    return { sum, perCharacter: sum / characters, normalised: sum - unconditional[i]!.sum, tokens };
  });
  const best = (rule: ScoringRule) => argmax(scores.map((score) => score[rule]));
  return {
    choices: scores,
    best: { sum: best("sum"), perCharacter: best("perCharacter"), normalised: best("normalised") },
  };
}

function check(context: string, choices: readonly string[]): void {
  if (typeof context !== "string") throw wrongType("context", "a string", context);
  if (!Array.isArray(choices)) throw wrongType("choices", "an array", choices);
  if (choices.length === 0) throw outOfRange("choices", "at least one", choices.length);
  for (const [i, choice] of choices.entries()) {
    if (typeof choice !== "string") throw wrongType(`choices[${i}]`, "a string", choice);
    if (choice.trim() === "") throw outOfRange(`choices[${i}]`, "more than white space", choice);
  }
}

interface LogLikelihood {
  sum: number;
  tokens: number;
}

/** ln P(choice | context) of each choice. */
async function logLikelihoods(
  model: Model,
  context: string,
  choices: readonly string[],
  signal: AbortSignal | undefined,
): Promise<LogLikelihood[]> {
  const texts = choices.map((choice) => split(model, context, choice));
  const shared = Math.min(...texts.map(({ border }) => border));
  using prefix = model.sequence();
  const logits = await prefix.forward(texts[0]!.tokens.subarray(0, shared), "last", { signal });
  const scores = await Promise.allSettled(
    texts.map(async (text) => {
      using sequence = prefix.fork();
      return await logLikelihood(sequence, logits, text, signal);
    }),
  );
  const results: LogLikelihood[] = [];
  for (const [i, score] of scores.entries()) {
    if (score.status === "rejected") {
      if (score.reason.code !== "ERR_CRIA_CACHE_FULL") throw score.reason;
      // Without a fork beside it, the prefix has the room of its own blocks too.
      prefix.truncate(shared);
      results.push(await logLikelihood(prefix, logits, texts[i]!, signal));
    } else {
      results.push(score.value);
    }
  }
  return results;
}

/** A context and a choice, and where the choice's tokens begin: after BOS at the earliest. */
interface SplitText {
  readonly tokens: Int32Array;
  readonly border: number;
}

/** Finds the border as {@link scoreChoices} tells. A choice has one token at least. */
function split({ tokenizer, runtime: { contextLength } }: Model, context: string, choice: string): SplitText {
  const { bos } = tokenizer;
  if (bos === undefined)
    throw new CriaError("ERR_CRIA_UNSUPPORTED", "vocabulary: must have a BOS to begin a text with");
  const alone = afterBos(bos, tokenizer.encode(context));
  const tokens = afterBos(bos, tokenizer.encode(context + choice));
  // The last is not read.
  if (tokens.length - 1 > contextLength) {
    throw new CriaError(
      "ERR_CRIA_CONTEXT",
      `context: must be, with a choice, at most ${contextLength + 1} tokens, not ${tokens.length}`,
    );
  }
  let border = 1;
  while (border < tokens.length - 1 && tokens[border] === alone[border]) border++;
  return { tokens, border };
}

/**
 * The sum over a choice's tokens.
 *
 * @param sequence has read some of the text's tokens, those of no choice
 * @param logits after the last of them
 */
async function logLikelihood(
  sequence: Sequence,
  logits: Float32Array,
  { tokens, border }: SplitText,
  signal: AbortSignal | undefined,
): Promise<LogLikelihood> {
  const unread = tokens.subarray(sequence.length, -1); // nothing follows the last
  let next = sequence.length;
  let sum = 0;
  const score = (row: Float32Array) => {
    if (next >= border) sum += logProbability(row, tokens[next]!);
    next++;
  };
  score(logits);
  for await (const row of logitsByToken(sequence, unread, logits.length, { signal })) score(row);
  return { sum, tokens: tokens.length - border };
}

/** The index of the largest; of equals the first. */
function argmax(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
