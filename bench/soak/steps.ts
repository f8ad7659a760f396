/**
 * A model that never rests: callers of all kinds share it, whose texts are long and short, urgent and not, guessed ahead,
 * windowed, forked, searched, saved, aborted, left and disposed of while they are made. The caches are too small for all.
 */
import { getEventListeners } from "node:events";
import { join } from "node:path";

import type { GenerateOptions } from "../../lib/generate-options.js";
import { loadModel, type Model } from "../../lib/model.js";
import { argmax } from "../../lib/sampling/ranking.js";
import type { Scheduler } from "../../lib/scheduler.js";
import { tinyModel } from "../../lib/tiny.js";
import { Cleanup } from "../cleanup.js";
import { Dice } from "./dice.js";
import { Outcomes } from "./outcomes.js";
import type { Amounts } from "./resources.js";

/** Callers at a time. */
const callers = 24;

/** Of each model's cache: of about as many of the longest texts as callers speak to it, so that some wait or give way. */
const cacheTokens = 1024;

/** After so many milliseconds without a step something waits for ever. */
const patienceMs = 60_000;

const prompts = ["Once upon a time", "The little dog", "Lily and Tom went to the park. They", "One day, a bird said"];

/** What a caller has. */
interface World {
  readonly dice: Dice;
  readonly model: Model;
  readonly draft: Model;
  /** Of somebody who never aborts: what listens to it is to go away by itself. */
  readonly forever: AbortSignal;
  /** A place for a file of the caller's own. */
  readonly path: string;
  /** What each prompt goes on with where the likeliest token is taken. */
  readonly texts: ReadonlyMap<string, string>;
}

/** What can end the work of a caller beside its end. The cache is too small at times, with nobody to wait for. */
const ends = ["done", "ERR_CRIA_ABORTED", "ERR_CRIA_DISPOSED", "ERR_CRIA_CACHE_FULL"] as const;

/** A signal that never aborts, or one that soon does; `end` forgets it. */
function someSignal({ dice, forever }: World): { signal: AbortSignal; end: () => void } {
  if (!dice.once(3)) return { signal: forever, end: () => undefined };
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), dice.below(60));
  return { signal: controller.signal, end: () => clearTimeout(timer) };
}

async function withSignal(world: World, work: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const { signal, end } = someSignal(world);
  try {
    await work(signal);
  } finally {
    end();
  }
}

/** How a text is chosen and read. */
function someOptions({ dice, draft }: World): GenerateOptions {
  const ways: readonly GenerateOptions[] = [
    {},
    { speculate: "prompt" },
    { speculate: { draft, tokens: dice.between(1, 4) } },
    { window: { size: dice.between(32, 96) }, ignoreEos: true },
    { logprobs: 2, echo: true },
    { stop: [".", "the end"], repeatPenalty: 1.1 },
  ];
  const temperature = dice.one([0, 0.8]);
  const maxTokens = dice.between(1, 96);
  return { ...dice.one(ways), temperature, maxTokens, seed: dice.below(2 ** 32), priority: dice.between(-1, 1) };
}

type Activity = (world: World) => Promise<void>;

/** A text that nothing disturbs is what it is alone, whatever goes on beside it. */
const plain: Activity = async ({ dice, model, texts, forever }) => {
  const prompt = dice.one(prompts);
  const generation = model.generate(prompt, { maxTokens: 48, temperature: 0, signal: forever });
  for await (const _ of generation);
  const { text } = generation.result!;
  const alone = texts.get(prompt);
  if (text !== alone)
    throw new Error(`${prompt}: must go on as alone, ${JSON.stringify(alone)}, not ${JSON.stringify(text)}`);
};

const generate: Activity = (world) =>
  withSignal(world, async (signal) => {
    const { dice, model } = world;
    let left = dice.once(3) ? dice.below(20) : Number.POSITIVE_INFINITY;
    for await (const _ of model.generate(dice.one(prompts), { ...someOptions(world), signal })) if (left-- <= 0) break;
  });

const samples: Activity = (world) =>
  withSignal(world, async (signal) => {
    const { dice, model } = world;
    const { window: _, ...options } = someOptions(world);
    await model.sample(dice.one(prompts), { ...options, n: dice.between(2, 4), signal }).finish();
  });

/** Turns, a fork and a rewind; at times it is disposed of while it replies. */
const converse: Activity = async (world) => {
  const { dice, model } = world;
  using conversation = model.conversation();
  for (let turns = dice.between(1, 3); turns > 0; turns--) {
    await withSignal(world, async (signal) => {
      const { echo: _, ...options } = someOptions(world);
      const rude = dice.once(6);
      const reply = conversation.say(dice.one(prompts), { ...options, maxTokens: dice.between(1, 32), signal });
      for await (const _piece of reply) if (rude) conversation.dispose();
    });
    if (dice.once(3)) {
      using fork = conversation.fork();
      for await (const _ of fork.say(" Then", { maxTokens: 8, temperature: 0 }));
    }
    if (dice.once(4)) conversation.rewind();
  }
};

/** A sequence by hand, step by step, with forks, and with what it forgets. */
const step: Activity = (world) =>
  withSignal(world, async (signal) => {
    const { dice, model } = world;
    using sequence = model.sequence();
    let token = argmax(await sequence.forward(model.tokenizer.encode(dice.one(prompts)), "last", { signal }));
    for (let steps = dice.between(1, 32); steps > 0; steps--) {
      token = argmax(await sequence.forward(Int32Array.of(token), "last", { signal, priority: dice.between(-1, 1) }));
    }
    using fork = sequence.fork();
    const both = [sequence, fork].map((each) => each.decode(token, dice.between(1, 8), { signal }));
    if (dice.once(4)) fork.dispose();
    const ended = await Promise.allSettled(both);
    const failed = ended.find((end) => end.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    sequence.truncate(dice.below(sequence.length));
    const begin = dice.below(fork.length);
    await fork.removeRange(begin, dice.between(begin, fork.length), { signal, keepBlocks: dice.once(2) });
    await fork.forward(Int32Array.of(token), "none", { signal });
  });

const keep: Activity = async ({ dice, model, path }) => {
  using sequence = model.sequence();
  await sequence.forward(model.tokenizer.encode(dice.one(prompts)), "none");
  await model.saveSequence(sequence, path);
  using again = await model.loadSequence(path);
  await again.decode(300, 4);
};

const search: Activity = (world) =>
  withSignal(world, (signal) =>
    world.model.beamSearch(world.dice.one(prompts), { beams: world.dice.between(1, 4), maxTokens: 8, signal }),
  );

const score: Activity = (world) =>
  withSignal(world, async (signal) => {
    const { dice, model } = world;
    await model.logprobs(dice.one(prompts), { top: 2, signal });
    await model.score(dice.one(prompts), [" happy.", " sad, and went home."], { signal });
  });

/** The more common ones several times. */
const activities: readonly Activity[] = [
  ...[plain, plain, generate, generate, generate, generate, generate, generate],
  ...[samples, converse, converse, step, step, step, search, score, keep],
];

/** Two models, one whose texts wait for room and one whose texts give way, and the draft of both. */
export class Steps {
  readonly #models: readonly Model[];
  readonly #draft: Model;
  readonly #texts: ReadonlyMap<string, string>;
  readonly #folder: string;
  readonly #dice: Dice;
  readonly #forever = new AbortController().signal;
  readonly #outcomes = new Outcomes();
  #failed = false;

  private constructor(models: readonly Model[], texts: ReadonlyMap<string, string>, folder: string, seed: number) {
    [this.#draft, ...this.#models] = models as [Model, ...Model[]];
    this.#texts = texts;
    this.#folder = folder;
    this.#dice = new Dice(seed);
  }

  /** @param folder for the files that callers write */
  static async in(folder: string, seed: number): Promise<Steps> {
    using cleanup = new Cleanup();
    const models: Model[] = [];
    for (const preempt of [false, false, true]) {
      models.push(cleanup.use(await loadModel(tinyModel, { threads: 1, preempt, cacheSize: { tokens: cacheTokens } })));
    }
    const texts = new Map<string, string>();
    for (const prompt of prompts) {
      const generation = models[0]!.generate(prompt, { maxTokens: 48, temperature: 0 });
      for await (const _ of generation);
      texts.set(prompt, generation.result!.text);
    }
    cleanup.move();
    return new Steps(models, texts, folder, seed);
  }

  /** Taken so far by sequences, the draft's among them. */
  get taken(): number {
    return this.#sum(({ steps }) => steps);
  }

  /** What came of it beside the steps: runs of the program, which many share, and sequences that gave way to others. */
  get facts(): Readonly<Record<string, number>> {
    return { runs: this.#sum(({ runs }) => runs), preemptions: this.#sum(({ preemptions }) => preemptions) };
  }

  get outcomes(): Readonly<Record<string, number>> {
    return this.#outcomes.counts;
  }

  /** Of what nobody should hold between two runs. */
  get held(): Amounts {
    return {
      "blocks held": this.#all.reduce((sum, { runtime: { pool } }) => sum + pool.blocks - pool.freeBlocks, 0),
      "sequences waiting": this.#sum(({ waiting }) => waiting),
      "signal's listeners": getEventListeners(this.#forever, "abort").length,
    };
  }

  /** Goes on until so many steps were taken in all, and every caller has come to an end. */
  async until(steps: number): Promise<void> {
    const all = Promise.all(
      Array.from({ length: callers }, (_, i) => this.#call(join(this.#folder, `caller-${i}`), steps)),
    );
    try {
      await this.#watch(all);
    } catch (error) {
      this.#failed = true; // the other callers come to an end
      throw error;
    }
  }

  async #call(path: string, steps: number): Promise<void> {
    while (this.taken < steps && !this.#failed) {
      const world: World = {
        dice: this.#dice,
        model: this.#dice.one(this.#models),
        draft: this.#draft,
        forever: this.#forever,
        path,
        texts: this.#texts,
      };
      await this.#outcomes.count(() => this.#dice.one(activities)(world), ends);
    }
  }

  /** Waits for some work, and throws where no step is taken for a while. */
  async #watch(work: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const still = new Promise<void>((_, reject) => {
      let before = this.taken;
      timer = setInterval(() => {
        if (this.taken === before)
          reject(new Error(`no step was taken for ${patienceMs / 1e3} s: callers wait for ever`));
        before = this.taken;
      }, patienceMs);
    });
    try {
      await Promise.race([work, still]);
    } finally {
      clearInterval(timer);
    }
  }

  #sum(of: (scheduler: Scheduler) => number): number {
    return this.#all.reduce((sum, { runtime }) => sum + of(runtime.scheduler), 0);
  }

  get #all(): readonly Model[] {
    return [this.#draft, ...this.#models];
  }

  [Symbol.dispose](): void {
    for (const model of this.#all) model.dispose();
  }
}
