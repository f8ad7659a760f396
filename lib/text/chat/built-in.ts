import { codeLlama70b } from "./code-llama-70b.js";
import { llama2 } from "./llama-2.js";
import type { ImmediateTemplate } from "./template.js";
import { alpaca, baize, chatDoctor, dolly, gpt4all, koala, vicuna, vicunaV0 } from "./transcripts.js";

const templates = [llama2, codeLlama70b, alpaca, vicunaV0, vicuna, koala, baize, gpt4all, chatDoctor, dolly] as const;

/** The names of the templates that are built in. */
export const templateNames: readonly string[] = templates.map(({ name }) => name);

/** The built-in template of a name. */
export const builtIn = (name: string): ImmediateTemplate | undefined => templates.find((one) => one.name === name);

/**
 * What models call themselves, in lower case and without anything but letters and digits, and the template that they
 * were taught; the first that is in a name counts.
 */
const byModel: readonly (readonly [RegExp, ImmediateTemplate])[] = [
  [/codellama(?=.*70b).*instruct/, codeLlama70b],
  [/codellama.*instruct/, llama2],
  [/llama2.*chat/, llama2],
  [/vicuna.*v0(?!\d)/, vicunaV0],
  [/vicuna/, vicuna],
  [/chatdoctor/, chatDoctor],
  [/koala/, koala],
  [/baize/, baize],
  [/gpt4all/, gpt4all],
  [/dolly/, dolly],
  [/alpaca/, alpaca],
];

/**
 * What is looked at of a name, which a file may have of any length: the patterns take its square. Names have some 60.
 */
const longestName = 256;

/** The template of a model of this name, as far as names tell. */
export function templateOfModel(name: string): ImmediateTemplate | undefined {
  const plain = name
    .slice(0, longestName)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "");
  return byModel.find(([pattern]) => pattern.test(plain))?.[1];
}
