import { outOfRange, wrongArgument, wrongType } from "../../errors.js";
import { optionsOf } from "../../options.js";

/** Who says something. */
export type ChatRole = "system" | "user" | "assistant";

const roles: readonly ChatRole[] = ["system", "user", "assistant"];

/** What was said in a chat, by whom. */
export interface ChatMessage {
  readonly role: ChatRole;
  readonly content: string;
  /** What a user's instruction is about, for the templates that have a place for it: alpaca and dolly. */
  readonly input?: string | undefined;
}

/**
 * A copy of the messages that a caller gave, each read once.
 *
 * @throws TypeError or RangeError that names the message at fault by its index
 */
export function messagesOf(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  if (!Array.isArray(messages)) throw wrongType("messages", "an array", messages);
  if (messages.length === 0) throw wrongArgument("messages: must not be empty");
  return Array.from(messages, (message, i) => messageOf(message, `messages[${i}]`));
}

function messageOf(given: ChatMessage, name: string): ChatMessage {
  const message = optionsOf("a message", given, ["role", "content", "input"], name);
  const { role, content, input } = message;
  if (typeof role !== "string") throw wrongType(`${name}.role`, "a string", role);
  if (!roles.includes(role)) throw outOfRange(`${name}.role`, '"system", "user" or "assistant"', role);
  if (typeof content !== "string") throw wrongType(`${name}.content`, "a string", content);
  if (input === undefined) return message;
  if (typeof input !== "string") throw wrongType(`${name}.input`, "a string", input);
  if (role !== "user") throw wrongArgument(`${name}.input: must be a user's, not one of the ${role}`);
  return message;
}

/** A question with the answer that it got; the last has none yet. */
export interface Turn {
  readonly user: string;
  readonly input: string | undefined;
  readonly assistant: string | undefined;
}

/** A chat as most templates have it. */
export interface Dialog {
  readonly system: string | undefined;
  /** The last one's question is what is to be answered. */
  readonly turns: readonly Turn[];
}

/**
 * The messages as questions and answers, which must alternate, after a system message or none.
 *
 * @throws RangeError that names the first message that is not the one's whose turn it is
 */
export function dialogOf(messages: readonly ChatMessage[]): Dialog {
  const begin = messages[0]!.role === "system" ? 1 : 0;
  const turns: Turn[] = [];
  for (let i = begin; i < messages.length; i++) {
    const { role, content, input } = messages[i]!;
    const wanted = (i - begin) % 2 === 0 ? "user" : "assistant";
    if (role !== wanted) throw outOfRange(`messages[${i}].role`, `"${wanted}", for they take turns`, role);
    if (role === "user") turns.push({ user: content, input, assistant: undefined });
    else turns.push({ ...turns.pop()!, assistant: content });
  }
  const last = turns.at(-1);
  if (last === undefined || last.assistant !== undefined)
    throw wrongArgument("messages: must end with one of the user, to be answered");
  return { system: begin === 1 ? messages[0]!.content : undefined, turns };
}

/** @throws TypeError where a message has an input, for which the template `of` has no place */
export function refuseInputs(messages: readonly ChatMessage[], of: string): void {
  const wrong = messages.findIndex(({ input }) => input !== undefined);
  if (wrong >= 0) throw wrongArgument(`messages[${wrong}].input: has no place in the template ${of}`);
}
