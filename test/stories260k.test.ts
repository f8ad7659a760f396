import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { loadModel } from "../lib/model.js";
import { dataFile, needFiles } from "./support/data.js";
import { executions } from "./support/isas.js";

const path = dataFile("stories260K", "stories260Ktok512.gguf");
const greedy = dataFile("stories260K", "greedy.txt");

describe("stories260K", () => {
  test.for(executions)("says llama2.c's expected text: $isa, $threads threads", async (execution, context) => {
    needFiles(context, path, greedy);
    // 200 tokens are more than the 128 that its file names as context; it was trained with 512.
    const model = await loadModel(path, { contextLength: 256, onWarning: () => undefined, ...execution });
    const generation = model.generate("", { temperature: 0, maxTokens: 200, ignoreEos: true });
    let text = "";
    for await (const piece of generation) text += piece;
    model.dispose();

    expect(text.trimStart()).toBe(readFileSync(greedy, "utf8").trimStart());
    expect(generation.result).toMatchObject({ promptTokens: 1, finishReason: "length", text });
    expect(generation.result!.tokens).toHaveLength(200);
  });
});
