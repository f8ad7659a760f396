import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { show } from "../lib/errors.js";
import type * as cria from "../lib/index.js";
import { Device, estimateMemory, loadModel, type Model, tinyModel } from "../lib/index.js";
import { optionsOf } from "../lib/options.js";
import { describeError } from "./support/compare.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

const wrong = {
  nothing: null,
  "a number": 5,
  "an array": [],
  "a set": new Set(),
  "another name": { foo: 1 },
} as const;

/** Everything that takes options. */
const takers: Record<string, (options: never) => unknown> = {
  generate: (options) => model.generate("O", options),
  sample: (options) => model.sample("O", options),
  say: (options) => model.conversation().say("O", options),
  beamSearch: (options) => model.beamSearch("O", options),
  logprobs: (options) => model.logprobs("O", options),
  score: (options) => model.score("O", [" a"], options),
  forward: (options) => model.sequence().forward(Int32Array.of(1), "last", options),
  removeRange: (options) => model.sequence().removeRange(0, 0, options),
  loadModel: (options) => loadModel(tinyModel, options),
  estimateMemory: (options) => estimateMemory(tinyModel, options),
};

describe.each(Object.entries(takers))("%s", (name, take) => {
  test.each(Object.entries(wrong))("refuses %s for its options", async (_, options) => {
    const message =
      options !== null && "foo" in Object(options)
        ? `options.foo: is not an option of ${name}`
        : "options: must be an object";
    const taken = (async () => take(options as never))();
    await expect(taken).rejects.toMatchObject({
      code: "ERR_CRIA_ARGUMENT",
      message: expect.stringMatching(RegExp(`^${message}`)),
    });
  });
});

test("no options at all are an error where some are needed, and a device's must be some", () => {
  expect(() => model.sample("O", undefined as never)).toThrow("options: must be an object, not undefined");
  expect(() => new Device(null as never)).toThrow("options: must be an object, not null");
});

test("each is read once, and what is not given is not there", () => {
  let reads = 0;
  const options = {
    get a() {
      return ++reads;
    },
    b: undefined,
  };
  expect(optionsOf("this", options, ["a", "b"])).toEqual({ a: 1 });
  expect(reads).toBe(1);
});

/** What of T's properties may be left out, and yet not be given as undefined. */
type Exacting<T> = {
  [K in keyof T]-?: Pick<T, never> extends Pick<T, K>
    ? { [P in K]: undefined } extends Pick<T, K>
      ? never
      : K
    : never;
}[keyof T];

type AllExacting =
  | Exacting<cria.ModelOptions>
  | Exacting<cria.ChatOptions>
  | Exacting<cria.InfillOptions>
  | Exacting<cria.SampleOptions>
  | Exacting<cria.BeamSearchOptions>
  | Exacting<cria.ScoreOptions>
  | Exacting<cria.ChoiceOptions>
  | Exacting<cria.ForwardOptions>
  | Exacting<cria.RemoveOptions>
  | Exacting<cria.DecoderOptions>
  | Exacting<cria.SpeculateOptions>
  | Exacting<cria.WindowOptions>
  | Exacting<cria.SamplerOptions>
  | Exacting<cria.ChatMessage>;

test("each may be undefined, for those who compile with exactOptionalPropertyTypes", () => {
  // It is the compiler that refuses the line where one may not, and names it.
  const none: [AllExacting] extends [never] ? true : AllExacting = true;
  expect(none).toBe(true);
});

test("an integer that is too large is told of the largest", () => {
  const of = (maxTokens: number) => () => model.generate("Once", { maxTokens });
  expect(of(2 ** 60)).toThrow(`maxTokens: must be an integer from 1 to ${Number.MAX_SAFE_INTEGER}, not ${2 ** 60}`);
  expect(of(0)).toThrow("maxTokens: must be an integer of at least 1, not 0");
  expect(of(1.5)).toThrow("maxTokens: must be an integer of at least 1, not 1.5");
});

describe("what an error shows of a value", () => {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const throwing = {
    get constructor() {
      throw new Error("mine");
    },
  };
  test.each<[string, unknown]>([
    ["a getter that throws", throwing],
    ["a name that is none", { constructor: { name: Symbol() } }],
    ["a proxy that was revoked", revoked.proxy],
    ["no class", Object.create(null)],
  ])("is that it is an object, of one with %s", (_, value) => {
    expect(show(value)).toBe("an object");
    expect(describeError(() => model.generate("O", { maxTokens: value as number }))?.code).toBe("ERR_CRIA_ARGUMENT");
  });
});
