/// <reference lib="esnext.disposable" preserve="true" />
import { performance } from "node:perf_hooks";

import { unaborted } from "./abort.js";
import type { Adapter } from "./adapters/adapter.js";
import { checkAdapterRuns } from "./adapters/adapter-file.js";
import { AdapterSet } from "./adapters/adapter-set.js";
import { readAdapterFiles, readAdapters, roomBeside, setFirst } from "./adapters/loading.js";
import { mergedSource } from "./adapters/merge.js";
import { type AdapterOption, type AppliedAdapter, prefixOptions } from "./adapters/options.js";
import type { PrefixOptions } from "./adapters/prefix-file.js";
import { type BeamCandidate, type BeamSearchOptions, beamSearch } from "./beam.js";
import { type ChatOptions, chat } from "./chat.js";
import { Conversation } from "./conversation.js";
import { Device, type DeviceOptions, deviceOptions } from "./device.js";
import { CriaError, wrongArgument, wrongType } from "./errors.js";
import { pathOf } from "./files.js";
import { modelFingerprint } from "./fingerprint.js";
import { Generation } from "./generate.js";
import { type GenerateOptions, generateOptions } from "./generate-options.js";
import { type InfillOptions, infill } from "./infill.js";
import { loadLlama, weightBytesPerToken } from "./llama.js";
import { type ScoredToken, type ScoreOptions, scoreText } from "./logprobs.js";
import { checkMemory, checkRuntimeOptions } from "./memory.js";
import { PromptOpening } from "./opening.js";
import { optionalFlag, optionalFunction, optionalSignal, optionsOf } from "./options.js";
import { Runtime, type RuntimeOptions, runtimeOptions } from "./runtime.js";
import { type SampleOptions, Samples } from "./samples.js";
import { type ChoiceOptions, type Scores, scoreChoices } from "./score.js";
import { Sequence } from "./sequence.js";
import type { ModelIdentity } from "./text/chat/choose.js";
import type { ChatMessage } from "./text/chat/messages.js";
import { type Tokenizer, tokenizerOf } from "./text/tokenizer.js";
import { fallbackWarnings } from "./weights/fallbacks.js";
import { requireTypes } from "./weights/gpu-types.js";
import { readModel } from "./weights/model-file.js";
import type { LlamaConfig, ModelIndex } from "./weights/source.js";
import { type LoadOptions, type ModelFile, WeightStore } from "./weights/store.js";

/** Options of {@link loadModel}. */
export interface ModelOptions extends DeviceOptions, RuntimeOptions, LoadOptions {
  /**
   * LoRA adapters, in GGUF files or folders that PEFT wrote, and LLaMA-Adapters. What they compute is added to what the
   * weights do, which stay as they are: {@link Model.setAdapters} sets others instead. Default: none.
   */
  adapters?: readonly AdapterOption[] | undefined;
  /**
   * Whether what the adapters add is merged into the weights as these are loaded, which then cost no more than without.
   * Weights stay in their types, rounded to these. Others can be set beside them. Not without `adapters`. Default:
   * false.
   */
  mergeAdapters?: boolean | undefined;
  /** Called with warnings. Default: `process.emitWarning`. */
  onWarning?: ((message: string) => void) | undefined;
}

const modelOptions = [
  ...deviceOptions,
  ...runtimeOptions,
  "adapters",
  "mergeAdapters",
  "mmap",
  "tokenizer",
  "quantize",
  "onProgress",
  "onWarning",
  "signal",
] as const satisfies readonly (keyof ModelOptions)[];

/** A model that was loaded from a file: it reads and writes text. */
export class Model {
  readonly runtime: Runtime;
  readonly tokenizer: Tokenizer;
  readonly loadMs: number;
  /** As it was given to {@link loadModel}. */
  readonly path: string;
  /** What the model calls itself. */
  readonly name: string | undefined;
  /** The Jinja template of chats that its files have. */
  readonly chatTemplate: string | undefined;
  readonly #store: WeightStore;
  readonly #adapters: AdapterSet;
  #fingerprint: Uint8Array | undefined;
  #disposed = false;

  /** {@link loadModel} makes it. */
  constructor(
    runtime: Runtime,
    tokenizer: Tokenizer,
    store: WeightStore,
    adapters: AdapterSet,
    loadMs: number,
    identity: ModelIdentity,
  ) {
    this.path = identity.path;
    this.name = identity.name;
    this.chatTemplate = identity.chatTemplate;
    this.runtime = runtime;
    this.#adapters = adapters;
    this.tokenizer = tokenizer;
    this.loadMs = loadMs;
    this.#store = store;
  }

  get device(): Device {
    return this.runtime.device;
  }

  get config(): LlamaConfig {
    return this.runtime.config;
  }

  /** The adapters that are set, with the scale of each. */
  get adapters(): readonly (AppliedAdapter & { scale: number })[] {
    return this.#adapters.applied;
  }

  /** The memory of the weights, in the kernels' layout, without adapters. */
  get weightBytes(): number {
    return this.#store.bytes;
  }

  /** Of those, the bytes that one token reads. */
  get weightBytesPerToken(): number {
    return weightBytesPerToken(this.#store);
  }

  /**
   * Continues a prompt. An empty one begins with BOS. What comes is an async iterable of pieces of text.
   *
   * @example
   * ```js
   * const signal = AbortSignal.timeout(60_000);
   * const generation = model.generate("Once upon a time", { maxTokens: 32, temperature: 0.8, signal });
   * for await (const piece of generation) process.stdout.write(piece);
   * console.log(generation.result.finishReason, generation.result.timings.decodeTokensPerSecond);
   * ```
   *
   * @throws TypeError or RangeError for a wrong option
   * @throws CriaError ERR_CRIA_CONTEXT where the prompt is longer than the context, ERR_CRIA_DISPOSED after `dispose`
   */
  generate(prompt: string | Int32Array, options: GenerateOptions = {}): Generation {
    this.#check();
    return new Generation(this, new PromptOpening(this, prompt), optionsOf("generate", options, generateOptions));
  }

  /**
   * Answers the last of some messages. What comes is an async iterable of pieces of the answer. What a chat has in
   * common with an earlier one, answers too, is found in the cache in whole blocks of 16 tokens, and not read again.
   *
   * @example
   * ```js
   * const messages = [{ role: "user", content: "Tell me of a dog." }];
   * const answer = model.chat(messages, { template: "vicuna", maxTokens: 32 });
   * for await (const piece of answer) process.stdout.write(piece);
   * messages.push({ role: "assistant", content: answer.result.text }, { role: "user", content: "And of a cat?" });
   * for await (const piece of model.chat(messages, { template: "vicuna", maxTokens: 32 })) process.stdout.write(piece);
   * ```
   *
   * @throws TypeError or RangeError for a wrong option, and for a message that is wrong or out of turn: it names its
   *   index
   * @throws CriaError ERR_CRIA_TEMPLATE where there is no template for the model, or it cannot be run; ERR_CRIA_CONTEXT
   *   where the prompt is longer than the context; ERR_CRIA_DISPOSED after `dispose`. Of a Jinja template the iteration
   *   throws them
   */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    this.#check();
    return chat(this, messages, options);
  }

  /**
   * Fills the gap between two texts, by a model that was taught it, as Code Llama 7B, 13B and 70B were. What comes is
   * an async iterable of pieces of what stands between them.
   *
   * ```js
   * const between = model.infill("def square(x):\n    return ", "\n\nprint(square(3))\n");
   * for await (const piece of between) process.stdout.write(piece);
   * ```
   *
   * @throws TypeError or RangeError for a wrong option
   * @throws CriaError ERR_CRIA_UNSUPPORTED where the vocabulary has not the tokens `<PRE>`, `<SUF>`, `<MID>` and
   *   `<EOT>`, ERR_CRIA_CONTEXT where the texts are longer than the context, ERR_CRIA_DISPOSED after `dispose`
   */
  infill(prefix: string, suffix: string, options: InfillOptions = {}): Generation {
    this.#check();
    return infill(this, prefix, suffix, options);
  }

  /**
   * Continues a prompt in `n` ways, for which it is read once. What comes is an async iterable of pieces of all texts.
   *
   * @example
   * ```js
   * const samples = model.sample("Once upon a time", { n: 3, maxTokens: 16, seed: 1 });
   * for (const { text, seed } of await samples.finish()) console.log(seed, text);
   * ```
   *
   * @throws as {@link generate}
   */
  sample(prompt: string | Int32Array, options: SampleOptions): Samples {
    this.#check();
    return new Samples(this, prompt, options);
  }

  /**
   * An empty conversation. Any number of them share the model and its cache.
   *
   * @example
   * ```js
   * const conversation = model.conversation();
   * for (const text of ["Once upon a time", " Then Tom"]) {
   *   for await (const piece of conversation.say(text, { maxTokens: 16 })) process.stdout.write(piece);
   * }
   * conversation.dispose();
   * ```
   *
   * @throws CriaError ERR_CRIA_DISPOSED after `dispose`
   */
  conversation(): Conversation {
    this.#check();
    return new Conversation(this);
  }

  /**
   * The most probable texts after a prompt, as far as a beam search finds them, the best first.
   *
   * @example
   * ```js
   * const candidates = await model.beamSearch("Once upon a time", { beams: 3, maxTokens: 12 });
   * for (const { text, score } of candidates) console.log(score.toFixed(3), text);
   * ```
   *
   * @throws as {@link beamSearch}
   */
  async beamSearch(prompt: string | Int32Array, options: BeamSearchOptions = {}): Promise<BeamCandidate[]> {
    this.#check();
    return beamSearch(this, prompt, options);
  }

  /**
   * The log-probability of each token of a text, BOS among them, but the first, after those before it.
   *
   * @example
   * ```js
   * const scores = await model.logprobs("The cat sat on the moon.", { top: 1 });
   * for (const { token, logprob, top } of scores) {
   *   console.log(model.tokenizer.decode([token]), logprob, top[0].logprob);
   * }
   * ```
   *
   * @param text a text, or tokens as they are
   * @throws as {@link generate}
   */
  async logprobs(text: string | Int32Array, options: ScoreOptions = {}): Promise<ScoredToken[]> {
    this.#check();
    return scoreText(this, text, options);
  }

  /**
   * Scores the choices that may follow a context. A choice is appended as it is: one that is a word begins with a
   * space.
   *
   * The tokens of a choice are those of context and choice, read as one text, after the last that they share from the
   * beginning with the tokens of the context alone. Where the border merges into one piece, that piece is thus the
   * choice's, with the end of the context that it holds. All begin with BOS. What the choices share is read once.
   *
   * @example
   * ```js
   * const choices = [" happy.", " banana."];
   * const { best } = await model.score("Lily was very", choices);
   * console.log(choices[best.perCharacter]);
   * ```
   *
   * @throws TypeError or RangeError where there is no choice, or one has nothing but white space
   * @throws CriaError ERR_CRIA_CONTEXT where context and choice are longer than the model's context,
   *   ERR_CRIA_UNSUPPORTED for a vocabulary without BOS, ERR_CRIA_ABORTED when `signal` stops it
   */
  async score(context: string, choices: readonly string[], options: ChoiceOptions = {}): Promise<Scores> {
    this.#check();
    return scoreChoices(this, context, choices, options);
  }

  /**
   * An empty sequence, to run tokens through the model one's own way.
   *
   * @example
   * ```js
   * const sequence = model.sequence();
   * const logits = await sequence.forward(Int32Array.of(1, 300, 301), "last"); // one for each token of the vocabulary
   * console.log(logits.length, sequence.length);
   * sequence.dispose();
   * ```
   *
   * @throws CriaError ERR_CRIA_DISPOSED after `dispose`
   */
  sequence(): Sequence {
    this.#check();
    return this.runtime.sequence();
  }

  /**
   * Saves a sequence of this model, its keys and values too, to a file: {@link loadSequence} goes on with it at once.
   *
   * @example
   * ```js
   * import { rm } from "node:fs/promises";
   *
   * const sequence = model.sequence();
   * await sequence.forward(Int32Array.of(1, 300, 301), "none");
   * const { bytes } = await model.saveSequence(sequence, "sequence.cria");
   * const again = await model.loadSequence("sequence.cria");
   * console.log(bytes, again.tokens);
   * for (const each of [sequence, again]) each.dispose();
   * await rm("sequence.cria");
   * ```
   *
   * @returns the size of the file
   * @throws TypeError where it is no sequence, or one of another model
   * @throws CriaFileError where it cannot be written
   * @throws CriaError ERR_CRIA_STATE while the sequence reads tokens, ERR_CRIA_DISPOSED after `dispose` of either
   */
  async saveSequence(sequence: Sequence, path: string): Promise<{ bytes: number }> {
    this.#check();
    if (!(sequence instanceof Sequence)) throw wrongType("sequence", "a sequence of this model", sequence);
    if (!sequence.belongsTo(this.runtime)) throw wrongArgument("sequence: must be one of this model, not of another");
    return await sequence.save(path, this.#fingerprintOf());
  }

  /**
   * A sequence that has read what a saved one had.
   *
   * @throws CriaFileError where the file is not a saved sequence, is damaged, has more tokens than the context, or is
   *   of another model or kind of cache
   * @throws CriaError ERR_CRIA_CACHE_FULL where the cache has no room for it, ERR_CRIA_DISPOSED after `dispose`
   */
  async loadSequence(path: string): Promise<Sequence> {
    this.#check();
    const sequence = this.runtime.sequence();
    try {
      await sequence.load(path, this.#fingerprintOf());
      return sequence;
    } catch (error) {
      sequence.dispose();
      throw error;
    }
  }

  /**
   * Reads an adapter, which {@link setAdapters} then sets: a LoRA, in a GGUF file or in a folder that PEFT wrote, or a
   * LLaMA-Adapter.
   *
   * @throws CriaFileError where it is none that cria applies, is for another model, or of a type that the device has
   *   not: it names the key or tensor at fault
   * @throws CriaError ERR_CRIA_MEMORY where there is not the memory to have it and set it, ERR_CRIA_DISPOSED after
   *   `dispose`
   * @throws TypeError or RangeError for a wrong path or option
   */
  async loadAdapter(path: string, options: PrefixOptions = {}): Promise<Adapter> {
    this.#check();
    if (typeof path !== "string") throw wrongType("path", "a string", path);
    return await this.#adapters.load(path, prefixOptions(options));
  }

  /**
   * Sets adapters instead of those that are set; an empty array sets none. The weights are not read again.
   *
   * It takes effect between texts. Sequences and conversations stay, and read what they hold again when they go on: the
   * cache was filled by other weights.
   *
   * @example
   * ```js
   * const adapter = await model.loadAdapter("adapter.gguf");
   * await model.setAdapters([{ adapter, scale: 0.5 }]);
   * for await (const piece of model.generate("Once upon a time", { maxTokens: 16 })) process.stdout.write(piece);
   * await model.setAdapters([]); // as it was
   * adapter.dispose();
   * ```
   *
   * @throws TypeError or RangeError where they are no such list, or one is another model's
   * @throws CriaError ERR_CRIA_STATE while a text is made or tokens are read, and where there is a sequence that cannot
   *   be read again: one that was loaded, or of which a range was removed; ERR_CRIA_MEMORY where there is not the
   *   memory, ERR_CRIA_DISPOSED after `dispose` of the model or of one of the adapters. Those that were set then stay
   */
  async setAdapters(adapters: readonly AppliedAdapter[]): Promise<void> {
    this.#check();
    await this.#adapters.set(adapters);
  }

  #fingerprintOf(): Uint8Array {
    this.#fingerprint ??= modelFingerprint(this.config, this.#store);
    return this.#adapters.fingerprint(this.#fingerprint);
  }

  /** Frees the weights, the cache and the device when the run in progress is done; what would run afterwards throws. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.runtime.dispose();
    this.#store.dispose();
    this.device.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(): void {
    if (this.#disposed) throw new CriaError("ERR_CRIA_DISPOSED", "model: was disposed");
  }
}

/**
 * Loads a model: a GGUF file, one that `cria pack` made, a folder of Hugging Face's or Meta's or a file of it, or a
 * file of llama2.c's.
 *
 * @example
 * ```js
 * import { loadModel, tinyModel } from "cria";
 *
 * const model = await loadModel(tinyModel, { threads: 1, onProgress: (packed, total) => console.log(packed / total) });
 * for await (const piece of model.generate("Once upon a time", { maxTokens: 32 })) process.stdout.write(piece);
 * model.dispose();
 * ```
 *
 * @param file its path, or a URL of the scheme file:
 * @throws TypeError or RangeError for a wrong option
 * @throws CriaFileError where that is not a model that cria runs: it names the key or tensor at fault
 * @throws CriaError ERR_CRIA_MEMORY where the machine has not the memory ({@link estimateMemory} tells before),
 *   ERR_CRIA_ABORTED when `signal` stops it
 */
export async function loadModel(file: string | URL, options: ModelOptions = {}): Promise<Model> {
  const path = pathOf("path", file);
  const known = optionsOf("loadModel", options, modelOptions);
  const started = performance.now();
  const index = await readModel(path, known);
  return loadIndexed(index, tokenizerOf(known.tokenizer ?? path, index.vocabulary), known, started);
}

/**
 * Loads the model of an index that was read already.
 *
 * @param tokenizer of the index's vocabulary, or of another with as many tokens
 * @param started when, by `performance.now()`, the loading began that `loadMs` tells of
 * @throws as {@link loadModel}
 */
export async function loadIndexed(
  index: ModelFile,
  tokenizer: Tokenizer,
  options: ModelOptions = {},
  started: number = performance.now(),
): Promise<Model> {
  checkOptions(index, options);
  const wanted = await readAdapterFiles(index, options);
  const device = new Device(deviceFor(index, options));
  let store: WeightStore | undefined;
  let runtime: Runtime | undefined;
  try {
    warnOfCpu(device, options);
    warnOfFallbacks(index, options);
    requireTypes(index.path, index.tensors.values(), device);
    for (const { file } of wanted) checkAdapterRuns(file, device);
    const beside = options.mergeAdapters ? [] : wanted;
    const adapterBytes = roomBeside(beside, index.config, device);
    const { cacheTokens } = await checkMemory(index.path, { ...index, adapterBytes }, device, options);
    const merged = options.mergeAdapters ? await readAdapters(wanted, index.config, device, options.signal) : [];
    using read = index.source(options);
    const source = merged.length > 0 ? mergedSource(index.path, read, device, merged, options.signal) : read;
    store = new WeightStore(device, source, options);
    const weights = await loadLlama(index.config, store);
    runtime = new Runtime(device, index.config, weights, { ...options, cacheSize: { tokens: cacheTokens } });
    const adapters = new AdapterSet(runtime, merged);
    await setFirst(adapters, beside, options.signal);
    unaborted("the loading", options.signal);
    return new Model(runtime, tokenizer, store, adapters, performance.now() - started, index);
  } catch (error) {
    runtime?.dispose();
    store?.dispose();
    device.dispose();
    throw error;
  }
}

/** A packed file is in the CPU's layout, so there "auto" is the CPU. */
function deviceFor(index: ModelFile, options: ModelOptions): ModelOptions {
  const { device = "auto" } = options;
  if (!index.mappable) return options;
  if (device === "auto") return { ...options, device: "cpu" };
  if (device !== "cuda" && device !== "cuda-emulated") return options;
  throw new CriaError(
    "ERR_CRIA_UNSUPPORTED",
    `device: must be cpu for ${index.path}, which is packed in a CPU's layout, not ${device}; the GGUF that it was made from runs there`,
  );
}

/** Where there is a GPU, and it is not what computes. That there is none is no news. */
function warnOfCpu({ withoutGpu }: Device, { onWarning = warn }: ModelOptions): void {
  if (withoutGpu === undefined || withoutGpu.code === "ERR_CRIA_UNSUPPORTED") return;
  onWarning(`${withoutGpu.message}; the CPU computes instead`);
}

function warnOfFallbacks({ path, fallbacks = [] }: ModelFile, { onWarning = warn }: ModelOptions): void {
  for (const message of fallbackWarnings(fallbacks)) onWarning(`${path}: ${message}`);
}

function checkOptions({ path, config }: ModelIndex, options: ModelOptions): void {
  const { contextLength, mmap, mergeAdapters, onProgress, onWarning = warn, signal } = options;
  checkRuntimeOptions(options);
  optionalFlag("mmap", mmap);
  optionalFlag("mergeAdapters", mergeAdapters);
  optionalFunction("onWarning", onWarning);
  optionalFunction("onProgress", onProgress);
  optionalSignal(signal);
  // Dynamic scaling stretches the context that the model was trained with.
  const { scaling } = config.rope;
  const reach = config.contextLength * (scaling?.type === "dynamic" ? scaling.factor : 1);
  if (contextLength !== undefined && contextLength > reach) {
    onWarning(
      `${path} was trained with a context of ${config.contextLength} tokens; past them, up to the ${contextLength} asked for, it may talk nonsense`,
    );
  }
}

const warn = (message: string) => process.emitWarning(message, "CriaWarning");
