import { outOfRange } from "../../errors.js";
import type { Tokenizer } from "../tokenizer.js";
import { type ChatMessage, type Dialog, dialogOf, refuseInputs } from "./messages.js";
import { type Segment, tokenOf } from "./segments.js";
import type { ImmediateTemplate } from "./template.js";

/** With them a text could pretend to be the next question, or what the system says. */
export const llama2Tags = ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"] as const;

/**
 * Llama 2-Chat's, and that of Code Llama 7B to 34B Instruct (Meta's `llama/generation.py`, `chat_completion`): each
 * question with its answer is a text of its own between BOS and EOS, contents lose the white space around them, and
 * tags in any content are refused.
 *
 * @example `<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST] {assistant} </s><s>[INST] {user} [/INST]`
 */
export const llama2: ImmediateTemplate = {
  name: "llama-2",
  immediate: true,
  prepare(messages, tokenizer) {
    refuseInputs(messages, "llama-2");
    refuseTags(messages);
    return { segments: segmentsOf(dialogOf(messages), tokenizer), stopTokens: [], stops: [], spaced: true };
  },
};

/** @throws RangeError where a content has one of the template's tags */
export function refuseTags(messages: readonly ChatMessage[]): void {
  for (const [i, { content }] of messages.entries()) {
    const tag = llama2Tags.find((one) => content.includes(one));
    if (tag !== undefined) throw outOfRange(`messages[${i}].content`, "free of the template's tags", tag);
  }
}

function segmentsOf({ system, turns }: Dialog, { bos, eos }: Tokenizer): Segment[] {
  return turns.flatMap(({ user, assistant }, i) => {
    const question = i === 0 && system !== undefined ? `<<SYS>>\n${system}\n<</SYS>>\n\n${user}` : user;
    const asked = `[INST] ${question.trim()} [/INST]`;
    if (assistant === undefined) return [...tokenOf(bos), { text: asked }];
    return [...tokenOf(bos), { text: `${asked} ${assistant.trim()} ` }, ...tokenOf(eos)];
  });
}
