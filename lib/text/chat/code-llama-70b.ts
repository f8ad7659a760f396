import { CriaError } from "../../errors.js";
import type { Tokenizer } from "../tokenizer.js";
import { dialogOf, refuseInputs } from "./messages.js";
import { type Segment, tokenOf } from "./segments.js";
import type { ImmediateTemplate } from "./template.js";

/**
 * Code Llama 70B Instruct's (Meta's `llama/generation.py`, `dialog_prompt_tokens`): each message is a text of its own,
 * with its source, before the token `<step>`; contents lose the white space around them, and where the system says
 * nothing it says an empty message.
 *
 * @example `<s>Source: system\n\n {system}<step>Source: user\n\n {user}<step>Source: assistant\nDestination: user\n\n `
 */
export const codeLlama70b: ImmediateTemplate = {
  name: "code-llama-70b",
  immediate: true,
  prepare(messages, tokenizer) {
    refuseInputs(messages, "code-llama-70b");
    const { system = "", turns } = dialogOf(messages);
    const step = stepOf(tokenizer);
    const said = (source: string, content: string): Segment[] => [
      { text: `Source: ${source}\n\n ${content.trim()}` },
      { token: step },
    ];
    const segments = [
      ...tokenOf(tokenizer.bos),
      ...said("system", system),
      ...turns.flatMap(({ user, assistant }) => [
        ...said("user", user),
        ...(assistant === undefined ? [] : said("assistant", assistant)),
      ]),
      { text: "Source: assistant\nDestination: user\n\n " },
    ];
    return { segments, stopTokens: [step], stops: [], spaced: true };
  },
};

function stepOf(tokenizer: Tokenizer): number {
  const step = tokenizer.find("<step>") ?? tokenizer.find("▁<step>");
  if (step !== undefined) return step;
  throw new CriaError(
    "ERR_CRIA_UNSUPPORTED",
    "template: code-llama-70b needs the token <step>, which the model has not",
  );
}
