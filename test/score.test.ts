import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";

import { evaluateChoices, evaluateTexts, parseChoiceItems, parseTextItems } from "../lib/evaluate.js";
import { loadModel, type Model, tinyModel } from "../lib/index.js";
import { measurePerplexity } from "../lib/perplexity.js";
import { scoreChoices } from "../lib/score.js";
import { afterBos } from "../lib/text/tokenizer.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

const context = "Once upon a time, there was a little girl";
const choices = [
  " named Lily.",
  " named",
  " stone of the, and and",
  "s who loved to play in the park with her friends.",
];

/** ln P of the tokens of `text` from the one at `border` on, from logits of one pass over the whole text. */
async function tail(text: string, border: number): Promise<number> {
  const { tokenizer, config } = model;
  const tokens = afterBos(tokenizer.bos!, tokenizer.encode(text));
  using sequence = model.sequence();
  const logits = await sequence.forward(tokens, "all");
  let sum = 0;
  for (let i = border; i < tokens.length; i++) {
    const row = Float64Array.from(logits.subarray((i - 1) * config.vocab, i * config.vocab));
    sum += row[tokens[i]!]! - Math.log(row.reduce((total, logit) => total + Math.exp(logit), 0));
  }
  return sum;
}

const lengthOf = (text: string) => 1 + model.tokenizer.encode(text).length;
const allFree = () => model.runtime.pool.freeBlocks === model.runtime.pool.blocks;

describe("scoring", () => {
  it("is the likelihood that one pass over context and choice gives", async () => {
    const scores = await model.score(context, choices);
    expect(scores.choices).toHaveLength(choices.length);
    for (const [i, { sum, perCharacter, normalised, tokens }] of scores.choices.entries()) {
      const choice = choices[i]!;
      // "girl" and "s" merge to other pieces than "girl" alone, so the last choice's border lies before them, or not.
      const whole = model.tokenizer.encode(context + choice);
      const alone = model.tokenizer.encode(context);
      const differs = whole.findIndex((token, at) => token !== alone[at]);
      expect(tokens).toBe(whole.length - differs);
      const expected = await tail(context + choice, 1 + differs);
      expect(sum).toBeCloseTo(expected, 9);
      expect(perCharacter).toBeCloseTo(expected / choice.trimStart().length, 9);
      const unconditional = await tail(`Answer:${choice}`, lengthOf("Answer:"));
      expect(normalised).toBeCloseTo(expected - unconditional, 9);
    }
    expect(allFree()).toBe(true);
  });

  it("the winners are the best by each rule, of equals the first", async () => {
    const twice = [...choices, ...choices];
    const { choices: scores, best } = await model.score(context, twice);
    for (const rule of ["sum", "perCharacter", "normalised"] as const) {
      const values = scores.map((score) => score[rule]);
      expect(best[rule]).toBe(values.indexOf(Math.max(...values)));
    }
    expect(best.sum).toBe(1); // the shortest
    expect(best.perCharacter).not.toBe(2); // no English
    expect(scores.slice(choices.length)).toEqual(scores.slice(0, choices.length));
  });

  it("a piece over the border is the choice's, with the end of the context in it", async () => {
    const { tokenizer } = model;
    const [whole, cut] = ["Once upon a time", "Once upon a ti"];
    const differs = tokenizer.encode(whole).findIndex((token, at) => token !== tokenizer.encode(cut)[at]);
    expect(differs).toBeLessThan(tokenizer.encode(cut).length); // else the vocabulary is not one to test this with
    const { choices: scores } = await model.score(cut, ["me", "ger"]);
    expect(scores[0]!.sum).toBeCloseTo(await tail(whole, 1 + differs), 9);
    expect(scores[0]!.tokens).toBe(tokenizer.encode(whole).length - differs);
  });

  it("without a context the choices follow BOS", async () => {
    const { choices: scores } = await model.score("", ["Once upon a time", "The"]);
    expect(scores[0]!.sum).toBeCloseTo(await tail("Once upon a time", 1), 9);
    expect(scores[0]!.tokens).toBe(model.tokenizer.encode("Once upon a time").length);
  });

  it("characters are code points", async () => {
    const { choices: scores } = await model.score(context, [" 𝄞é"]);
    expect(scores[0]!.perCharacter).toBeCloseTo(scores[0]!.sum / 2, 12);
  });

  it("refuses what cannot be scored, and leaves no block behind", async () => {
    const refusals: [Promise<unknown>, string, RegExp][] = [
      [model.score(7 as never, choices), "ERR_CRIA_ARGUMENT", /^context: must be a string, not 7$/],
      [model.score(context, "a" as never), "ERR_CRIA_ARGUMENT", /^choices: must be an array, not "a"$/],
      [model.score(context, []), "ERR_CRIA_ARGUMENT", /^choices: must be at least one, not 0$/],
      [model.score(context, ["a", 1 as never]), "ERR_CRIA_ARGUMENT", /^choices\[1\]: must be a string, not 1$/],
      [model.score(context, [" \n"]), "ERR_CRIA_ARGUMENT", /^choices\[0\]: must be more than white space/],
      [model.score(context, choices, { signal: 1 as never }), "ERR_CRIA_ARGUMENT", /^signal: /],
      [
        model.score(`${context} `.repeat(40), [" a"]),
        "ERR_CRIA_CONTEXT",
        /^context: must be, with a choice, at most 193 tokens, not \d+$/,
      ],
      [model.score(context, choices, { signal: AbortSignal.abort() }), "ERR_CRIA_ABORTED", /^the run was cancelled$/],
    ];
    for (const [scoring, code, message] of refusals) {
      await expect(scoring).rejects.toEqual(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    }
    expect(allFree()).toBe(true);
    const disposed = await loadModel(tinyModel);
    disposed.dispose();
    await expect(disposed.score(context, choices)).rejects.toThrow(/was disposed$/);
  });

  it("scores in a context that it fills", async () => {
    const short = await loadModel(tinyModel, { contextLength: lengthOf(context + choices[0]!) - 1 });
    onTestFinished(() => short.dispose());
    const same = [choices[0]!, choices[0]!, choices[1]!];
    const long = await model.score(context, same);
    expect(await scoreChoices(short, context, same)).toEqual(long);
    expect(short.runtime.pool.freeBlocks).toBe(short.runtime.pool.blocks);
    expect(long.choices[0]!.tokens).toBeGreaterThan(1);
  });
});

const line = (item: unknown) => `${JSON.stringify(item)}\n`;
const item = { context, choices: [" named Lily.", " stone of the, and and"], answer: 0 };

describe("evaluation", () => {
  it("counts the items that the right choice wins, by each rule", async () => {
    const items = parseChoiceItems("t.jsonl", `${line(item)}\n${line({ ...item, answer: 1 })}${line(item)}`);
    expect(items.map(({ line }) => line)).toEqual([1, 3, 4]);
    const progress: number[] = [];
    const report = await evaluateChoices(model, items, { onProgress: (done) => progress.push(done) });
    expect(report).toEqual({ items: 3, accuracy: { sum: 2 / 3, perCharacter: 2 / 3, normalised: 2 / 3 } });
    expect(progress).toEqual([1, 2, 3]);
  });

  it("texts' perplexity is that of all their tokens", async () => {
    const texts = ["Once upon a time, there was a cat.", "The sun was hot. Tim was sad."];
    const report = await evaluateTexts(model, parseTextItems("t.jsonl", texts.map((text) => line({ text })).join("")));
    const [a, b] = [await measurePerplexity(model, texts[0]!), await measurePerplexity(model, texts[1]!)];
    expect(report).toMatchObject({ items: 2, tokens: a.tokens + b.tokens, bytes: a.bytes + b.bytes });
    expect(report.nll).toBeCloseTo(a.nll + b.nll, 9);
    expect(report.perplexity).toBeCloseTo(Math.exp((a.nll + b.nll) / (a.tokens + b.tokens)), 9);
  });

  it.each<[string, RegExp]>([
    ["", /^t\.jsonl: must have at least one item$/],
    [`${line(item)}{"context"`, /^t\.jsonl: line 2: must be JSON: ./],
    ["[1]", /^t\.jsonl: line 1: must be a JSON object, not Array$/],
    [line({ ...item, context: undefined }), /^t\.jsonl: line 1: context: must be a string, not undefined$/],
    [line({ ...item, choices: [] }), /^t\.jsonl: line 1: choices: must be an array of at least one string/],
    [
      line({ ...item, choices: ["a", ""] }),
      /^t\.jsonl: line 1: choices\[1\]: must be a string of more than white space, not ""$/,
    ],
    [line({ ...item, answer: 2 }), /^t\.jsonl: line 1: answer: must be the index of a choice, from 0 to 1, not 2$/],
    [line({ ...item, answer: "0" }), /^t\.jsonl: line 1: answer: .* not "0"$/],
    [line({ ...item, answer: null }), /^t\.jsonl: line 1: answer: .* not null$/],
  ])("%j is refused", (text, message) => {
    expect(() => parseChoiceItems("t.jsonl", text)).toThrow(
      expect.objectContaining({
        name: "CriaFileError",
        code: "ERR_CRIA_FILE",
        message: expect.stringMatching(message),
      }),
    );
  });

  it("what an item has wrong is told with its line", async () => {
    expect(() => parseTextItems("t.jsonl", line({ text: "" }))).toThrow(/^t\.jsonl: line 1: text: must be /);
    const long = { ...item, context: `${context} `.repeat(40) };
    await expect(evaluateChoices(model, parseChoiceItems("t.jsonl", line(item) + line(long)))).rejects.toEqual(
      expect.objectContaining({
        code: "ERR_CRIA_CONTEXT",
        message: expect.stringMatching(/^t\.jsonl: line 2: context: /),
      }),
    );
    await expect(evaluateTexts(model, parseTextItems("t.jsonl", line({ text: "<|endoftext|>" })))).rejects.toEqual(
      expect.objectContaining({ code: "ERR_CRIA_FILE", message: expect.stringMatching(/^t\.jsonl: line 1: text: /) }),
    );
    const stopped = evaluateChoices(model, parseChoiceItems("t.jsonl", line(item)), { signal: AbortSignal.abort() });
    await expect(stopped).rejects.toThrow(/^the run was cancelled$/);
  });
});
