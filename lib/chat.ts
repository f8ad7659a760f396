import { wrongArgument, wrongType } from "./errors.js";
import { Generation } from "./generate.js";
import { type GenerateOptions, generateOptions } from "./generate-options.js";
import { type Opened, type Opening, PromptOpening, type PromptReader, type ReadingOptions } from "./opening.js";
import { optionsOf } from "./options.js";
import type { Speaker } from "./prompt.js";
import { chooseTemplate, type ModelIdentity } from "./text/chat/choose.js";
import { type ChatMessage, messagesOf } from "./text/chat/messages.js";
import { segmentTokens } from "./text/chat/segments.js";
import type { Prepared } from "./text/chat/template.js";

export interface ChatOptions extends GenerateOptions {
  /**
   * How the messages become a prompt: the name of a template that is built in, or a Jinja template. Default: the
   * model's own, or the one that its name tells of.
   */
  template?: string | undefined;
  /** What the system says, for messages that do not begin with one of the system. */
  system?: string | undefined;
}

export const chatOptions = [...generateOptions, "template", "system"] as const satisfies readonly (keyof ChatOptions)[];

/**
 * Answers the last of some messages, as {@link Model.chat} says.
 *
 * @throws TypeError or RangeError for a wrong option, or a message that is wrong or has no place in a built-in template
 * @throws CriaError ERR_CRIA_TEMPLATE where there is no template, ERR_CRIA_CONTEXT where the prompt of a built-in one
 *   is longer than the context; a Jinja template has its errors when the generation is iterated over
 */
export function chat(
  speaker: Speaker & ModelIdentity,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): Generation {
  const { template: wanted, system, ...known } = optionsOf("chat", options, chatOptions);
  const said = withSystem(messagesOf(messages), system);
  const { tokenizer } = speaker;
  const template = chooseTemplate(speaker, wanted);
  // What needs no waiting is refused at once, and not only when somebody iterates.
  const ready = template.immediate ? openingOf(speaker, template.prepare(said, tokenizer)) : undefined;
  const opening: Opening = {
    open: async (read, reading) => {
      const opened = ready ?? openingOf(speaker, await template.prepare(said, tokenizer, reading.signal));
      return opened.open(read, reading);
    },
  };
  return new Generation(speaker, opening, known);
}

function withSystem(messages: readonly ChatMessage[], system: string | undefined): readonly ChatMessage[] {
  if (system === undefined) return messages;
  if (typeof system !== "string") throw wrongType("system", "a string", system);
  if (messages[0]!.role === "system") throw wrongArgument("system: must not be given with a message of the system");
  return [{ role: "system", content: system }, ...messages];
}

const openingOf = (speaker: Speaker, { segments, spaced, ...ends }: Prepared): Opening =>
  new EndingOpening(speaker, segmentTokens(segments, speaker.tokenizer), !spaced, ends);

/** Tokens in a sequence of their own, and what ends the text after them. */
export class EndingOpening implements Opening {
  readonly #opening: PromptOpening;
  readonly #continuation: boolean;
  readonly #ends: NonNullable<Opened["ends"]>;

  /**
   * @param continuation whether a space that the text begins with is its own
   * @throws as {@link PromptOpening}
   */
  constructor(speaker: Speaker, tokens: Int32Array, continuation: boolean, ends: NonNullable<Opened["ends"]>) {
    this.#opening = new PromptOpening(speaker, tokens);
    this.#continuation = continuation;
    this.#ends = ends;
  }

  async open(read: PromptReader, _reading?: ReadingOptions): Promise<Opened> {
    return { ...(await this.#opening.open(read)), continuation: this.#continuation, ends: this.#ends };
  }
}
