/// <reference lib="esnext.disposable" preserve="true" />
import { CriaError, integer, outOfRange, wrongType } from "./errors.js";
import { Generation } from "./generate.js";
import { type GenerateOptions, generateOptions } from "./generate-options.js";
import type { Opened, PromptReader, ReadingOptions } from "./opening.js";
import { optionsOf } from "./options.js";
import { promptTokens, type Speaker } from "./prompt.js";
import type { Sequence } from "./sequence.js";
import type { Tokenizer } from "./text/tokenizer.js";
import { joined, tokensOf } from "./tokens.js";
import type { Window } from "./window.js";

/** `echo` scores a whole text: `model.logprobs(conversation.tokens)`. */
export type SayOptions = Omit<GenerateOptions, "echo">;

/**
 * Texts and replies in turn, which the model reads once each: their keys and values stay in the cache.
 *
 * A conversation holds, token for token, what was said and what was given out of the replies, and nothing else:
 *
 * - The token that ended a reply, EOS or a stop token, is not held. What the next text should begin with, such as a new
 *   line, or EOS's id in an Int32Array, is the caller's to say.
 * - Of a reply that a stop string ended, that string and what came after it are not held. Where it began within a
 *   token, what was given of that token is held as tokens of its own.
 * - A reply that was aborted, that failed, or that its caller left, is held as far as it was given out. Where that
 *   happens before its text is read, the turn has not been: nothing of the text is held.
 *
 * A reply's last token is read with the next text. With `window`, what it forgets is held no longer, nor can it be
 * brought back by `rewind`.
 */
export class Conversation {
  readonly #speaker: Speaker;
  readonly #sequence: Sequence;
  #unread: Int32Array = new Int32Array(0); // follow what the sequence has read
  #begins: readonly number[] = []; // of the turns
  #speaking = false;

  /** `model.conversation()` makes it. */
  constructor(speaker: Speaker, sequence: Sequence = speaker.runtime.sequence()) {
    this.#speaker = speaker;
    this.#sequence = sequence;
  }

  /** Tokens held. */
  get length(): number {
    return this.#sequence.length + this.#unread.length;
  }

  /** A copy of those tokens. */
  get tokens(): Int32Array {
    return joined(this.#sequence.tokens, this.#unread);
  }

  /** Texts that were said. */
  get turns(): number {
    return this.#begins.length;
  }

  /**
   * Says a text, and has the model go on from there. The text follows what is held as it is; only the first gets what a
   * prompt does: BOS and, where the vocabulary has it, a space. An empty one has the model go on with its reply.
   *
   * Nothing happens before the generation is iterated over.
   *
   * @param text a text, or tokens as they are
   * @throws TypeError or RangeError for a wrong option
   * @throws CriaError ERR_CRIA_DISPOSED after `dispose`. The iteration: ERR_CRIA_STATE while another reply is made,
   *   ERR_CRIA_CONTEXT where the text is longer than what is left of the context or, with `window`, than that allows
   */
  say(text: string | Int32Array, options: SayOptions = {}): Generation {
    this.#check();
    if (typeof text !== "string" && !(text instanceof Int32Array)) {
      throw wrongType("text", "a string or an Int32Array", text);
    }
    const { echo, ...known } = optionsOf<GenerateOptions, (typeof generateOptions)[number]>(
      "say",
      options,
      generateOptions,
    );
    if (echo !== undefined && echo !== false) throw outOfRange("echo", "false in a conversation", echo);
    const said = typeof text === "string" ? text : tokensOf("text", text, this.#speaker.tokenizer.size);
    return new Generation(this.#speaker, { open: (read, reading) => this.#open(said, read, reading) }, known);
  }

  /**
   * A conversation that holds the same. Keys and values are shared until one of the two goes on.
   *
   * @throws CriaError ERR_CRIA_STATE while a reply is made, ERR_CRIA_DISPOSED after `dispose`
   */
  fork(): Conversation {
    this.#requireIdle();
    const fork = new Conversation(this.#speaker, this.#sequence.fork());
    fork.#unread = this.#unread;
    fork.#begins = this.#begins;
    return fork;
  }

  /**
   * Forgets the last turns, each a text and its reply.
   *
   * @throws TypeError or RangeError where there are not as many
   * @throws CriaError ERR_CRIA_STATE while a reply is made, ERR_CRIA_DISPOSED after `dispose`
   */
  rewind(turns: number = 1): void {
    this.#requireIdle();
    integer("turns", turns, 0, this.turns);
    if (turns === 0) return;
    const kept = this.turns - turns;
    const begin = this.#begins[kept]!;
    const read = Math.min(begin, this.#sequence.length);
    this.#sequence.truncate(read);
    this.#unread = this.#unread.slice(0, begin - read);
    this.#begins = this.#begins.slice(0, kept);
  }

  /** Gives the cache's blocks back; a reply that is being made is aborted with ERR_CRIA_DISPOSED. */
  dispose(): void {
    this.#sequence.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(): void {
    if (this.#sequence.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "conversation: was disposed");
  }

  #requireIdle(): void {
    this.#check();
    if (this.#speaking) throw new CriaError("ERR_CRIA_STATE", "conversation: must have ended its reply first");
  }

  /** Reads a text, for a reply. Positions are those before the window forgot any token. */
  async #open(text: string | Int32Array, read: PromptReader, reading: ReadingOptions): Promise<Opened> {
    this.#requireIdle();
    const { tokenizer } = this.#speaker;
    const { window } = reading;
    const continuation = this.length > 0;
    const prompt = continuation ? continuingTokens(tokenizer, text) : promptTokens(tokenizer, text);
    if (this.#unread.length + prompt.length === 0) this.#unreadLast();
    const before = this.#unread;
    const next = joined(before, prompt);
    const from = this.#sequence.length;
    const begin = from + before.length;
    this.#speaking = true;
    try {
      await this.#makeRoom(next.length, reading);
      return {
        ...(await read(this.#sequence, next)),
        sequence: this.#sequence,
        prompt,
        before: this.#sequence.tokens,
        continuation: continuation || text.length > 0,
        close: (tokens, given) => {
          const reply = givenTokens(tokenizer, tokens, given, continuation || text.length > 0);
          this.#begins = [...this.#begins, begin];
          this.#settle(from, joined(next, reply.tokens), next.length + reply.same, window);
        },
      };
    } catch (error) {
      this.#settle(from, before, before.length, window);
      throw error;
    }
  }

  async #makeRoom(count: number, { window, ...options }: ReadingOptions): Promise<void> {
    if (window !== undefined) return window.makeRoom(this.#sequence, count, options);
    const left = this.#speaker.runtime.contextLength - this.#sequence.length;
    if (count <= left) return;
    throw new CriaError(
      "ERR_CRIA_CONTEXT",
      `text: must, with what is not read yet, be at most ${left} tokens, what is left of the context, not ${count}`,
    );
  }

  /** Has the last token be read again: its logits are needed, and they are not kept. */
  #unreadLast(): void {
    this.#unread = this.#sequence.tokens.slice(-1);
    this.#sequence.truncate(this.#sequence.length - 1);
  }

  /**
   * Ends a turn, or what became of it: after the tokens before `from` the conversation holds `tokens`.
   *
   * @param same of the tokens, the first ones that the sequence, as far as it has read on, has read
   */
  #settle(from: number, tokens: Int32Array, same: number, window: Window | undefined): void {
    this.#speaking = false;
    if (this.#sequence.disposed) return;
    const now = (position: number) => window?.now(position) ?? position;
    const read = Math.min(this.#sequence.length + (window?.removed ?? 0) - from, same);
    this.#sequence.truncate(now(from + read));
    this.#unread = tokens.slice(read);
    this.#begins = this.#begins.map(now);
  }
}

/** The tokens of a text that follows another. */
const continuingTokens = (tokenizer: Tokenizer, text: string | Int32Array): Int32Array =>
  typeof text === "string" ? tokenizer.encode(text, { continuation: true }) : text;

/**
 * The tokens of what was given out of a reply: its own as far as they go, the first `same` of what is returned; then
 * others, where the last of its own was given in part.
 */
function givenTokens(
  tokenizer: Tokenizer,
  tokens: readonly number[],
  given: string,
  continuation: boolean,
): { tokens: Int32Array; same: number } {
  const decoder = tokenizer.decoder({ continuation });
  let length = 0; // of the text of the tokens so far
  let told = 0; // of that of the first `same`
  let same = 0;
  for (const [i, token] of tokens.entries()) {
    length += decoder.push(token).length;
    // Tokens that add nothing, as bytes of a character that is not whole yet do, belong to what comes after them.
    if (length <= told || length > given.length) continue;
    told = length;
    same = i + 1;
  }
  if (length + decoder.end().length === given.length) return { tokens: Int32Array.from(tokens), same: tokens.length };
  const rest = tokenizer.encode(given.slice(told), { continuation: continuation || same > 0 });
  return { tokens: joined(Int32Array.from(tokens.slice(0, same)), rest), same };
}
