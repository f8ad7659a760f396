import { readFile } from "node:fs/promises";

import { packageFile } from "../support/data.js";

/** The README's first example; greedy, so that it says the same everywhere. */
export async function firstExample(): Promise<string> {
  const [, example] = (await readFile(packageFile("README.md"), "utf8")).match(/^```js\n(import .*?)^```$/ms)!;
  const greedy = example!.replace("{ maxTokens: 64 }", "{ maxTokens: 64, temperature: 0 }");
  if (greedy === example) throw new Error("the README's first example has other options than these");
  return greedy;
}
