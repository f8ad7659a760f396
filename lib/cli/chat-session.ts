import { CriaError, show, wrongArgument } from "../errors.js";
import { Replacement } from "../files.js";
import type { Generation, GenerationResult } from "../generate.js";
import type { GenerateOptions } from "../generate-options.js";
import type { Model } from "../model.js";
import { type ChatMessage, messagesOf } from "../text/chat/messages.js";
import { readText } from "./io.js";

/** A chat as it goes on: what was said, and how the model is asked. */
export class ChatSession {
  readonly #model: Model;
  readonly #options: GenerateOptions & { template?: string };
  #system: string | undefined;
  #messages: readonly ChatMessage[] = [];
  #forgotten = 0;

  constructor(model: Model, options: GenerateOptions & { template?: string }, system: string | undefined) {
    this.#model = model;
    this.#options = options;
    this.#system = system;
  }

  /** What the system says; none where it is undefined. */
  get system(): string | undefined {
    return this.#system;
  }

  set system(text: string | undefined) {
    this.#system = text;
  }

  /** What was said, the system's message first. */
  get messages(): readonly ChatMessage[] {
    return this.#withSystem(this.#messages);
  }

  #withSystem(messages: readonly ChatMessage[]): readonly ChatMessage[] {
    return this.#system === undefined ? messages : [{ role: "system", content: this.#system }, ...messages];
  }

  /** Whether it goes on where the context is full. */
  get windowed(): boolean {
    return this.#options.window !== undefined;
  }

  /** Questions that were answered. */
  get turns(): number {
    return this.#messages.length / 2;
  }

  /** Of them, the first ones, for which the context had no room left: they and their answers are no longer read. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /**
   * Asks something, and passes on the answer's pieces. An answer that was stopped is kept as far as it came; where none
   * of it came, or it failed, nothing was asked. With a window, the older half of what was said is forgotten where the
   * context is full: half, so that what stays is found in the cache by some questions more.
   */
  async ask(content: string, output: (piece: string) => void, signal: AbortSignal): Promise<GenerationResult> {
    const question: ChatMessage = { role: "user", content };
    for (let forgotten = this.#forgotten; ; forgotten += Math.ceil((this.turns - forgotten) / 2)) {
      try {
        return await this.#answer(question, forgotten, output, signal);
      } catch (error) {
        const overlong = error instanceof CriaError && error.code === "ERR_CRIA_CONTEXT";
        if (!overlong || !this.windowed || forgotten === this.turns) throw error;
      }
    }
  }

  async #answer(
    question: ChatMessage,
    forgotten: number,
    output: (piece: string) => void,
    signal: AbortSignal,
  ): Promise<GenerationResult> {
    const read = this.#withSystem(this.#messages.slice(2 * forgotten));
    const generation = this.#model.chat([...read, question], { ...this.#options, signal });
    try {
      for await (const piece of generation) output(piece);
    } finally {
      this.#keep(question, generation, forgotten);
    }
    return generation.result!;
  }

  #keep(question: ChatMessage, { result }: Generation, forgotten: number): void {
    if (result === undefined || (result.finishReason === "aborted" && result.text === "")) return;
    this.#forgotten = forgotten;
    this.#messages = [...this.#messages, question, { role: "assistant", content: result.text }];
  }

  /** Forgets the last question and its answer. Returns whether there was one. */
  undo(): boolean {
    const any = this.turns > 0;
    this.#messages = this.#messages.slice(0, -2);
    this.#forgotten = 0; // the others may fit again
    return any;
  }

  /** Forgets all that was said, but for what the system says. */
  reset(): void {
    this.#messages = [];
    this.#forgotten = 0;
  }

  /** @throws CriaFileError where it cannot be written */
  async save(path: string): Promise<void> {
    await using replacement = await Replacement.open(path);
    await replacement.write(`${JSON.stringify(this.messages, null, 2)}\n`);
    await replacement.finish();
  }

  /**
   * Takes over what {@link save} wrote.
   *
   * @throws CriaFileError where it cannot be read, TypeError or RangeError where it is no chat in which all is answered
   */
  async load(path: string): Promise<void> {
    const messages = messagesIn(await readText(path));
    const [first, ...rest] = messages;
    const system = first?.role === "system" ? first.content : undefined;
    const said = system === undefined ? messages : rest;
    if (said.length % 2 !== 0) throw wrongArgument("messages: must end with an answer");
    this.#messages = said;
    this.#forgotten = 0;
    this.#system = system;
  }
}

/** So many turns, for people. */
export const turnsText = (count: number): string =>
  `${count} ${count === 1 ? "question" : "questions"} and ${count === 1 ? "its answer" : "their answers"}`;

/** What people are told where {@link ChatSession.forgotten} has grown. */
export const forgottenNote = ({ forgotten }: ChatSession): string =>
  `the context was full: the chat's first ${turnsText(forgotten)} are no longer read`;

function messagesIn(text: string): readonly ChatMessage[] {
  let messages: unknown;
  try {
    messages = JSON.parse(text);
  } catch {
    throw wrongArgument(`messages: must be JSON, not ${show(text)}`);
  }
  return Array.isArray(messages) && messages.length === 0 ? [] : messagesOf(messages as readonly ChatMessage[]);
}
