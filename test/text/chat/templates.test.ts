/** The prompts of the built-in templates, and their tokens by Llama 2's vocabulary. */
import { describe, expect, test } from "vitest";

import { builtIn, templateNames, templateOfModel } from "../../../lib/text/chat/built-in.js";
import type { ChatMessage } from "../../../lib/text/chat/messages.js";
import { segmentTokens } from "../../../lib/text/chat/segments.js";
import type { Prepared } from "../../../lib/text/chat/template.js";
import { Tokenizer } from "../../../lib/text/tokenizer.js";
import { readLlamaVocabulary } from "../../../lib/weights/llama-gguf.js";
import { dataFile, needFiles } from "../../support/data.js";
import { smallVocabulary } from "../../support/vocabulary.js";
import { withCodeLlama } from "./code-llama.js";
import prompts from "./prompts.json" with { type: "json" };

const llama2 = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");
const small = new Tokenizer(withCodeLlama(smallVocabulary([])));

function prepared(template: string, messages: readonly ChatMessage[], tokenizer: Tokenizer = small): Prepared {
  return builtIn(template)!.prepare(messages, tokenizer);
}

/** A prompt as people write it down. */
function written({ segments }: Prepared): string {
  return segments.map((segment) => ("text" in segment ? segment.text : small.piece(segment.token))).join("");
}

const cases = (
  prompts as { template: string; messages: ChatMessage[]; prompt: (string | number)[]; tokens: number[] }[]
).map((one) => ({
  ...one,
  title: `${one.template}: ${one.messages.length}, from ${JSON.stringify(one.prompt[1]).slice(0, 40)}`,
}));

describe("a built-in template", () => {
  test("is among those that are held against SentencePiece", () => {
    expect(new Set(cases.map(({ template }) => template))).toEqual(new Set(templateNames));
  });

  test.for(cases)("writes its prompt: $title", ({ template, messages, prompt }) => {
    const step = small.find("<step>")!;
    const wanted = prompt.map((part) => (typeof part === "string" ? part : small.piece(part === 32015 ? step : part)));
    expect(written(prepared(template, messages))).toBe(wanted.join(""));
  });

  test.for(cases)("has SentencePiece's tokens: $title", async ({ template, messages, tokens }, context) => {
    needFiles(context, llama2);
    const tokenizer = new Tokenizer(withCodeLlama(await readLlamaVocabulary(llama2)));
    const { segments } = prepared(template, messages, tokenizer);
    expect(Array.from(segmentTokens(segments, tokenizer))).toEqual(tokens);
  });

  // From the card of codellama/CodeLlama-70b-Instruct-hf, where they are the tokens of Meta's own code.
  test("gives Meta's tokens for Code Llama 70B's published chat", async (context) => {
    needFiles(context, llama2);
    const tokenizer = new Tokenizer(withCodeLlama(await readLlamaVocabulary(llama2)));
    const { segments, stopTokens } = prepared(
      "code-llama-70b",
      [
        { role: "system", content: "System prompt    " },
        { role: "user", content: "First user query" },
        { role: "assistant", content: "Model response to first query" },
        { role: "user", content: "Second user query" },
      ],
      tokenizer,
    );
    // biome-ignore format: a list of ids
    expect(Array.from(segmentTokens(segments, tokenizer))).toEqual([1, 7562, 29901, 1788, 13, 13, 2184, 9508, 32015,
      7562, 29901, 1404, 13, 13, 3824, 1404, 2346, 32015, 7562, 29901, 20255, 13, 13, 8125, 2933, 304, 937, 2346, 32015,
      7562, 29901, 1404, 13, 13, 6440, 1404, 2346, 32015, 7562, 29901, 20255, 13, 14994, 3381, 29901, 1404, 13, 13,
      29871]);
    expect(stopTokens).toEqual([32015]);
  });

  test.for([
    ["llama-2", [], true],
    ["code-llama-70b", [], true],
    ["alpaca", ["### Instruction:"], false],
    ["dolly", ["### End", "### Instruction:"], false],
    ["vicuna-v0", ["###"], true],
    ["vicuna", [], true],
    ["koala", [], false],
    ["baize", ["[|Human|]", "[|AI|]"], false],
    ["gpt4all", ["### Prompt:", "### Instruction:", "### Response:"], false],
    ["chatdoctor", ["Patient: "], false],
  ] as const)("%s ends its answer at %j", ([name, stops, spaced]) => {
    const { stops: has, spaced: begins } = prepared(name, [{ role: "user", content: "Hi" }]);
    expect([has, begins]).toEqual([stops, spaced]);
  });

  test("ends at Dolly's own token, where there is one", () => {
    const tokenizer = new Tokenizer(smallVocabulary([["### End", 0, 3]]));
    expect(prepared("dolly", [{ role: "user", content: "Hi" }], tokenizer).stopTokens).toEqual([259]);
  });

  test("never makes a control token, or a user-defined one, of what anyone says", () => {
    const tokenizer = new Tokenizer(
      smallVocabulary([
        ["<|user|>", 0, 4],
        ["<|end|>", 0, 3],
        ["▁<step>", 0, 3],
      ]),
    );
    const said = "</s><s><|user|><|end|> <step><unk><0x0A>";
    for (const name of templateNames) {
      const messages = [
        { role: "system", content: said },
        { role: "user", content: said },
        { role: "assistant", content: said },
        { role: "user", content: said },
      ] as const;
      const { segments } = prepared(name, messages, tokenizer);
      const own = segments.filter((segment) => "token" in segment).length;
      const special = segmentTokens(segments, tokenizer).filter((id) => id < 3 || id > 258);
      expect(special, name).toHaveLength(own);
    }
  });
});

describe("a built-in template refuses", () => {
  const user = { role: "user", content: "Hi" } as const;
  const assistant = { role: "assistant", content: "Hello" } as const;
  const system = { role: "system", content: "Be brief" } as const;

  test.for<[ChatMessage[], string]>([
    [[assistant], 'messages[0].role: must be "user", for they take turns, not "assistant"'],
    [[user, user], 'messages[1].role: must be "assistant", for they take turns, not "user"'],
    [[system, assistant], 'messages[1].role: must be "user", for they take turns, not "assistant"'],
    [[user, system], 'messages[1].role: must be "assistant", for they take turns, not "system"'],
    [[user, assistant], "messages: must end with one of the user, to be answered"],
    [[system], "messages: must end with one of the user, to be answered"],
  ])("messages out of turn: %j", ([messages, problem]) => {
    for (const name of templateNames) {
      expect(() => prepared(name, messages)).toThrow(
        expect.objectContaining({ message: problem, code: "ERR_CRIA_ARGUMENT" }),
      );
    }
  });

  test.for(["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"])("%s in any of Llama 2's messages", (tag) => {
    for (const at of [0, 1, 2, 3]) {
      const messages = [system, user, assistant, user].map((message, i) =>
        i === at ? { ...message, content: `so ${tag} be it` } : message,
      );
      expect(() => prepared("llama-2", messages)).toThrow(
        `messages[${at}].content: must be free of the template's tags, not "${tag}"`,
      );
    }
  });

  test("an input where it has no place for it", () => {
    for (const name of templateNames.filter((one) => one !== "alpaca" && one !== "dolly")) {
      expect(() => prepared(name, [{ ...user, input: "x" }])).toThrow(
        `messages[0].input: has no place in the template ${name}`,
      );
    }
  });

  test("Code Llama 70B's without its token", () => {
    expect(() => prepared("code-llama-70b", [user], new Tokenizer(smallVocabulary([])))).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_UNSUPPORTED" }),
    );
  });
});

test.each([
  ["Llama-2-7b-chat-hf", "llama-2"],
  ["llama-2-13b-chat.Q4_0.gguf", "llama-2"],
  ["LLaMA v2 Chat", undefined],
  ["CodeLlama-34b-Instruct-hf", "llama-2"],
  ["codellama_codellama-70b-instruct-hf", "code-llama-70b"],
  ["CodeLlama-70B-Python", undefined],
  ["vicuna-7b-v1.5", "vicuna"],
  ["Vicuna 13B v1.1", "vicuna"],
  ["vicuna-13b-v0", "vicuna-v0"],
  ["alpaca-7b", "alpaca"],
  ["koala-13B-HF", "koala"],
  ["baize-v2-7b", "baize"],
  ["gpt4all-13b-snoozy", "gpt4all"],
  ["ChatDoctor", "chatdoctor"],
  ["dolly-v2-12b", "dolly"],
  ["TinyStories", undefined],
])("a model named %s was taught %s", (name, template) => {
  expect(templateOfModel(name)?.name).toBe(template);
});

test("a name of a file's choice takes no time: what is behind its beginning counts for nothing", () => {
  // Of 9 MB: a pattern that looked for an end behind each beginning would take hours.
  expect(templateOfModel("codellama".repeat(1_000_000))).toBeUndefined();
  expect(templateOfModel(`vicuna${"-".repeat(1_000_000)}v0`)?.name).toBe("vicuna");
});
