import { readFile } from "node:fs/promises";

import { loadModel, tinyModel } from "../../lib/index.js";
import { packageFile } from "../support/data.js";

/** The README's first example; greedy, so that it says the same everywhere. */
export async function firstExample(): Promise<string> {
  const [, example] = (await readFile(packageFile("README.md"), "utf8")).match(/^```js\n(import .*?)^```$/ms)!;
  const greedy = example!.replace("{ maxTokens: 64 }", "{ maxTokens: 64, temperature: 0 }");
  if (greedy === example) throw new Error("the README's first example has other options than these");
  return greedy;
}

/** What the tiny model says by the sources here: with 64 tokens, as the README's first example. */
export async function said(maxTokens: number): Promise<string> {
  using model = await loadModel(tinyModel, { onWarning: () => undefined });
  let text = "";
  for await (const piece of model.generate("Once upon a time", { temperature: 0, maxTokens })) text += piece;
  return text;
}
