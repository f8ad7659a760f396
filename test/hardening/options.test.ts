/** Any value for any option of anything, and for any argument of a kernel: it is taken, or refused by a typed error. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { chatOptions } from "../../lib/chat.js";
import { deviceOptions } from "../../lib/device.js";
import { generateOptions } from "../../lib/generate-options.js";
import { CriaError, Device, estimateMemory, loadModel, type Model, Sampler, tinyModel } from "../../lib/index.js";
import * as kernels from "../../lib/kernels.js";
import { runtimeOptions } from "../../lib/runtime.js";
import { samplerOptions } from "../../lib/sampling/sampler.js";
import { packageFile } from "../support/data.js";
import { junk } from "../support/junk.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

type Options = Record<string, unknown>;

/** Begins to read, and leaves: what a generation makes of its options comes to light with the first piece. */
async function firstPiece(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces) return;
}

/** Disposes of what was made. */
async function left(made: Promise<unknown> | unknown): Promise<void> {
  const { dispose } = ((await made) ?? {}) as { dispose?: () => void };
  if (typeof dispose === "function") Reflect.apply(dispose, await made, []);
}

interface Taker {
  names: readonly string[];
  take: (options: Options) => Promise<unknown> | unknown;
}

const tokens = Int32Array.of(1, 300);
const modelNames = [
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
];
const messages = [{ role: "user", content: "Once" }] as const;
const readingNames = ["signal", "priority", "wait", "onProgress"];
const of = (options: Options) => options as never;

const takers: Record<string, Taker> = {
  Device: { names: deviceOptions, take: (options) => left(new Device(of(options))) },
  loadModel: {
    names: modelNames,
    take: (options) => left(loadModel(tinyModel, of({ onWarning: () => undefined, ...options }))),
  },
  estimateMemory: {
    names: [...deviceOptions, ...runtimeOptions, "mmap", "tokenizer", "quantize"],
    take: (options) => estimateMemory(tinyModel, of(options)),
  },
  Sampler: {
    names: samplerOptions,
    take: (options) => new Sampler(of(options)).sample(Float32Array.of(1, 2, 3)),
  },
  generate: {
    names: generateOptions,
    take: (options) => firstPiece(model.generate("Once", of({ maxTokens: 2, ...options }))),
  },
  chat: {
    names: chatOptions,
    take: (options) => firstPiece(model.chat(messages, of({ template: "vicuna", maxTokens: 2, ...options }))),
  },
  message: {
    names: ["role", "content", "input"],
    take: (options) =>
      firstPiece(model.chat([of({ ...messages[0], ...options })], { template: "alpaca", maxTokens: 2 })),
  },
  sample: {
    names: [...generateOptions, "n"],
    take: (options) => firstPiece(model.sample("Once", of({ maxTokens: 2, n: 2, ...options }))),
  },
  say: {
    names: generateOptions.filter((name) => name !== "echo"),
    take: async (options) => {
      using conversation = model.conversation();
      await firstPiece(conversation.say("Once", of({ maxTokens: 2, ...options })));
    },
  },
  beamSearch: {
    names: ["maxTokens", "stopTokens", "ignoreEos", "signal", "priority", "onProgress", "beams", "lengthPenalty"],
    take: (options) => model.beamSearch("Once", of({ maxTokens: 2, beams: 2, ...options })),
  },
  forward: {
    names: readingNames,
    take: async (options) => {
      using sequence = model.sequence();
      await sequence.forward(tokens, "last", of(options));
    },
  },
  decode: {
    names: ["signal", "priority", "wait"],
    take: async (options) => {
      using sequence = model.sequence();
      await sequence.decode(1, 3, of(options));
    },
  },
  removeRange: {
    names: ["signal", "priority", "keepBlocks"],
    take: async (options) => {
      using sequence = model.sequence();
      await sequence.forward(tokens, "none");
      await sequence.removeRange(0, 1, of(options));
    },
  },
};

/** Lets pass what is taken, and what is refused by an error of cria's. */
async function expectTyped(take: () => unknown): Promise<boolean> {
  try {
    await take();
    return true;
  } catch (error) {
    const { code, message } = error as CriaError;
    const typed = [TypeError, RangeError, CriaError].some((kind) => error instanceof kind);
    if (!typed || !/^ERR_CRIA_(?!INTERNAL)/.test(String(code))) throw error;
    expect(message).toMatch(/: |^the /);
    return false;
  }
}

/** Functions are junk too, but one that is called must not be what fails: that is its caller's error. */
const anything = fc.constantFrom(...junk);

describe.each(Object.entries(takers))("%s", (_, { names, take }) => {
  test("takes or refuses anything for any of its options", async () => {
    const outcomes = new Set<boolean>();
    for (const name of names) {
      for (const make of junk) outcomes.add(await expectTyped(() => take({ [name]: make() })));
    }
    expect(outcomes).toEqual(new Set([true, false]));
  });

  test("and for several of them", async () => {
    const some = fc.dictionary(fc.constantFrom(...names), anything, { minKeys: 2, maxKeys: 4 });
    await fc.assert(
      fc.asyncProperty(some, async (makers) => {
        const options = Object.fromEntries(Object.entries(makers).map(([name, make]) => [name, make()]));
        await expectTyped(() => take(options));
      }),
      { numRuns: 100 },
    );
  });
});

const cache = () => ({
  keys: "f32",
  values: "f32",
  blocks: 1,
  kvHeads: 1,
  headDim: 8,
  k: new Float32Array(128),
  v: new Float32Array(128),
});
const sequences = [{ length: 1, past: 0, blocks: [0] }];
const floats = (n: number) => new Float32Array(n);

/** Sound options of each kernel. */
const sound: Record<string, () => Options> = {
  rmsNorm: () => ({ x: floats(6), weight: floats(3), eps: 1, out: floats(6) }),
  quantize: () => ({ x: floats(3), dim: 3, quants: new Int8Array(64), scales: floats(2), sums: new Int32Array(2) }),
  packWeights: () => ({ type: "f32", rows: 2, cols: 3, data: floats(6) }),
  embed: () => ({ table: weights, tokens: Int32Array.of(1), out: floats(3) }),
  matmul: () => ({ weight: weights, x: floats(3), out: floats(2) }),
  rope: () => ({ qkv: floats(24), positions: Int32Array.of(0), sequences, cache: cache(), heads: 1 }),
  attention: () => ({ q: floats(8), sequences, cache: cache(), heads: 1, out: floats(8) }),
  swiGlu: () => ({ gateUp: floats(6), dim: 3, out: floats(3) }),
  add: () => ({ x: floats(3), y: floats(3), out: floats(3) }),
};
const weights = kernels.packWeights({ type: "f32", rows: 2, cols: 3, data: floats(6) });
type Kernel = (options: Options) => unknown;

describe("cria/kernels", () => {
  const names = Object.keys(sound);
  const functionOf = (name: string) => (kernels as unknown as Record<string, Kernel>)[name]!;

  test("has no kernel that is not tried here", () => {
    const exported = Object.entries(kernels).filter(
      ([name, value]) => typeof value === "function" && /^[a-z]/.test(name),
    );
    expect(exported.map(([name]) => name).sort()).toEqual([...names].sort());
  });

  test.each(names)("%s takes or refuses anything for any of its options, and missing ones", async (name) => {
    functionOf(name)(sound[name]!());
    for (const make of junk) await expectTyped(() => functionOf(name)(make() as Options));
    for (const option of [...Object.keys(sound[name]!()), "device", "isa", "threads"]) {
      const { [option]: _, ...without } = sound[name]!();
      await expectTyped(() => functionOf(name)(without));
      for (const make of junk) await expectTyped(() => functionOf(name)({ ...sound[name]!(), [option]: make() }));
    }
  });

  test.each(["rope", "attention"])("%s takes or refuses anything within its cache and its sequences", async (name) => {
    for (const make of junk) {
      for (const option of Object.keys(cache())) {
        await expectTyped(() => functionOf(name)({ ...sound[name]!(), cache: { ...cache(), [option]: make() } }));
      }
      for (const option of Object.keys(sequences[0]!)) {
        const changed = [{ ...sequences[0], [option]: make() }];
        await expectTyped(() => functionOf(name)({ ...sound[name]!(), sequences: changed }));
      }
    }
  });
});

test("paths that are none", async () => {
  for (const make of [...junk, () => packageFile("test"), () => packageFile("package.json"), () => "/dev/zero"]) {
    await expectTyped(() => loadModel(make() as string));
  }
});
