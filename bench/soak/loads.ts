/**
 * Loading and disposing of a model, over and over: from both kinds of file, to the end and not, with files that are cut,
 * memory that is not there, callers that throw, and texts that are still being made.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { loadModel, type Model, type ModelOptions } from "../../lib/model.js";
import { packModel } from "../../lib/pack.js";
import { tinyModel } from "../../lib/tiny.js";
import { Dice } from "./dice.js";
import { Outcomes } from "./outcomes.js";

/** What the loads share. */
interface World {
  readonly dice: Dice;
  /** Of the same model: a GGUF file, and one that was packed. */
  readonly files: readonly string[];
  /** One of each that ends early. */
  readonly cut: readonly string[];
  /** What each load that comes to its end says. */
  readonly text: string;
}

/** A way in which a load may go, and how it then ends: well, or in an error of one of these codes. */
interface Fate {
  readonly ends: readonly string[];
  run(path: string, options: ModelOptions, world: World): Promise<void>;
}

const say = async (model: Model): Promise<string> => {
  const generation = model.generate("Once upon a time", { maxTokens: 4, temperature: 0 });
  for await (const _ of generation);
  return generation.result!.text;
};

const whole: Fate = {
  ends: ["done"],
  async run(path, options, { text }) {
    using model = await loadModel(path, options);
    const said = await say(model);
    if (said !== text) throw new Error(`a model of ${path} said ${JSON.stringify(said)}, not ${JSON.stringify(text)}`);
  },
};

const aborted: Fate = {
  ends: ["ERR_CRIA_ABORTED", "done"], // where what was left was one tensor
  async run(path, options, { dice }) {
    const controller = new AbortController();
    const share = dice.below(90) / 100;
    const onProgress = (loaded: number, total: number) => {
      if (loaded >= share * total) controller.abort();
    };
    using _ = await loadModel(path, { ...options, signal: controller.signal, onProgress });
  },
};

/** A callback's own error comes back to its caller. */
const thrown: Fate = {
  ends: ["OF_THE_CALLER"],
  async run(path, options, { dice }) {
    let left = dice.below(20); // of some thirty tensors
    const onProgress = () => {
      if (left-- === 0) throw Object.assign(new Error("of the caller"), { code: "OF_THE_CALLER" });
    };
    using _ = await loadModel(path, { ...options, onProgress });
  },
};

const cut: Fate = {
  ends: ["ERR_CRIA_FILE"],
  async run(_, options, { dice, cut }) {
    using _model = await loadModel(dice.one(cut), options);
  },
};

const tooLarge: Fate = {
  ends: ["ERR_CRIA_MEMORY"],
  async run(path, options) {
    using _ = await loadModel(path, { ...options, cacheSize: { tokens: 2 ** 31 } }); // more than a terabyte
  },
};

/** Disposed of while it speaks. */
const left: Fate = {
  ends: ["ERR_CRIA_DISPOSED"],
  async run(path, options) {
    const model = await loadModel(path, options);
    for await (const _ of model.generate("Once", { ignoreEos: true })) model.dispose();
  },
};

const fates: readonly Fate[] = [whole, whole, whole, aborted, thrown, cut, tooLarge, left];

/** Loads a model again and again, some way or other. */
export class Loads {
  readonly #world: World;
  readonly #outcomes = new Outcomes();

  private constructor(world: World) {
    this.#world = world;
  }

  /** @param folder for the files that it loads, beside the model of the package */
  static async in(folder: string, seed: number): Promise<Loads> {
    const dice = new Dice(seed);
    const packed = join(folder, "model.cria");
    await packModel(tinyModel, packed);
    const files = [tinyModel, packed];
    const cut: string[] = [];
    for (const [i, path] of files.entries()) {
      const bytes = await readFile(path);
      for (const share of [0.01, 0.5, 0.99]) {
        const name = join(folder, `cut-${i}-${share}`);
        await writeFile(name, bytes.subarray(0, Math.floor(share * bytes.length)));
        cut.push(name);
      }
    }
    using model = await loadModel(tinyModel);
    return new Loads({ dice, files, cut, text: await say(model) });
  }

  get outcomes(): Readonly<Record<string, number>> {
    return this.#outcomes.counts;
  }

  async load(): Promise<void> {
    const { dice, files } = this.#world;
    const fate = dice.one(fates);
    const cache = fate === whole ? "f16" : dice.one(["f32", "f16", "q8_0"] as const); // texts are compared
    const options: ModelOptions = { threads: dice.between(1, 2), cache, mmap: dice.once(2) };
    await this.#outcomes.count(() => fate.run(dice.one(files), options, this.#world), fate.ends);
  }
}
