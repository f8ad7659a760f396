/** Tests of a model: items, one a line of a JSON Lines file, and how it does on all of them together. */
import { CriaError, CriaFileError, type ErrorCode, show } from "./errors.js";
import type { Model } from "./model.js";
import { measurePerplexity, type Perplexity, perplexityOf } from "./perplexity.js";
import { type ScoringRule, scoreChoices, scoringRules } from "./score.js";

/** Where an item stands, for errors. */
interface Item {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** Of several completions of a context, the right one. */
export interface ChoiceItem extends Item {
  readonly context: string;
  readonly choices: readonly string[];
  /** The index of the right one. */
  readonly answer: number;
}

/** A text to predict. */
export interface TextItem extends Item {
  readonly text: string;
}

export interface EvaluateOptions {
  /** Stops the work within an op; ERR_CRIA_ABORTED is then thrown. */
  signal?: AbortSignal;
  /** Called after each item. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Reads `{"context": …, "choices": […], "answer": index}` a line; empty lines are passed over.
 *
 * @throws CriaFileError that names the line at fault
 */
export function parseChoiceItems(file: string, text: string): ChoiceItem[] {
  return parseLines(file, text, ({ context, choices, answer }, fail) => {
    if (typeof context !== "string") throw fail(`context: must be a string, not ${show(context)}`);
    if (!Array.isArray(choices) || choices.length === 0)
      throw fail(`choices: must be an array of at least one string, not ${show(choices)}`);
    for (const [i, choice] of choices.entries()) {
      if (typeof choice !== "string" || choice.trim() === "")
        throw fail(`choices[${i}]: must be a string of more than white space, not ${show(choice)}`);
    }
    if (!Number.isInteger(answer) || answer < 0 || answer >= choices.length)
      throw fail(`answer: must be the index of a choice, from 0 to ${choices.length - 1}, not ${show(answer)}`);
    return { context, choices, answer };
  });
}

/**
 * Reads `{"text": …}` a line; empty lines are passed over.
 *
 * @throws CriaFileError that names the line at fault
 */
export function parseTextItems(file: string, text: string): TextItem[] {
  return parseLines(file, text, ({ text }, fail) => {
    if (typeof text !== "string" || text === "")
      throw fail(`text: must be a string that is not empty, not ${show(text)}`);
    return { text };
  });
}

// biome-ignore lint/suspicious/noExplicitAny: what a file holds is anything until it is checked
type Fields = Record<string, any>;

function parseLines<T>(file: string, text: string, parse: (fields: Fields, fail: Fail) => T): (T & Item)[] {
  const items: (T & Item)[] = [];
  for (const [i, json] of text
    .replace(/^\ufeff/, "")
    .split("\n")
    .entries()) {
    if (json.trim() === "") continue;
    const line = i + 1;
    const fail: Fail = (problem, cause) =>
      new CriaFileError(file, `line ${line}`, problem, "ERR_CRIA_FILE", cause === undefined ? {} : { cause });
    items.push({ ...parse(parseObject(json, fail), fail), file, line });
  }
  if (items.length === 0) throw new CriaFileError(file, undefined, "must have at least one item");
  return items;
}

type Fail = (problem: string, cause?: unknown) => CriaFileError;

function parseObject(json: string, fail: Fail): Fields {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw fail(`must be JSON: ${(cause as Error).message}`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fail(`must be a JSON object, not ${show(value)}`);
  }
  return value;
}

export interface ChoiceReport {
  items: number;
  /** By each rule the share of the items whose right choice wins. */
  accuracy: Record<ScoringRule, number>;
}

/** @throws CriaError as {@link scoreChoices}, with the line at fault */
export async function evaluateChoices(
  model: Model,
  items: readonly ChoiceItem[],
  options: EvaluateOptions = {},
): Promise<ChoiceReport> {
  const right: Record<ScoringRule, number> = { sum: 0, perCharacter: 0, normalised: 0 };
  await forEach(items, options, async ({ context, choices, answer }, scoring) => {
    const { best } = await scoreChoices(model, context, choices, scoring);
    for (const rule of scoringRules) if (best[rule] === answer) right[rule] += 1;
  });
  const share = (rule: ScoringRule) => right[rule] / items.length;
  return {
    items: items.length,
    accuracy: { sum: share("sum"), perCharacter: share("perCharacter"), normalised: share("normalised") },
  };
}

/**
 * The texts' perplexity, over all their tokens.
 *
 * @throws CriaError as {@link measurePerplexity}, with the line at fault
 */
export async function evaluateTexts(
  model: Model,
  items: readonly TextItem[],
  options: EvaluateOptions = {},
): Promise<{ items: number } & Perplexity> {
  const sums = { tokens: 0, bytes: 0, nll: 0 };
  await forEach(items, options, async ({ text }, scoring) => {
    const { tokens, bytes, nll } = await measurePerplexity(model, text, {
      ...scoring,
      context: model.runtime.contextLength,
    });
    sums.tokens += tokens;
    sums.bytes += bytes;
    sums.nll += nll;
  });
  return { items: items.length, ...perplexityOf(sums) };
}

async function forEach<T extends Item>(
  items: readonly T[],
  { signal, onProgress }: EvaluateOptions,
  work: (item: T, options: { signal?: AbortSignal }) => Promise<void>,
): Promise<void> {
  for (const [i, item] of items.entries()) {
    try {
      await work(item, signal === undefined ? {} : { signal });
    } catch (error) {
      throw signal?.aborted ? error : naming(error, item);
    }
    onProgress?.(i + 1, items.length);
  }
}

/** A typed error with its line; what an item has wrong is the file's fault. Any other error as it is. */
function naming(error: unknown, { file, line }: Item): unknown {
  const { code, message } = error as { code?: ErrorCode; message: string };
  if (code === undefined) return error;
  const fault = code === "ERR_CRIA_ARGUMENT" ? "ERR_CRIA_FILE" : code;
  return new CriaError(fault, `${file}: line ${line}: ${message}`, { cause: error });
}
