/** Every method of every class, called on what is no such object, and on one that was disposed of. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { batchOf } from "../../bench/cache.js";
import { Conversation } from "../../lib/conversation.js";
import { Generation } from "../../lib/generate.js";
import { CriaError, Device, loadModel, Program, Sampler, Tokenizer, tinyModel } from "../../lib/index.js";
import { PackedWeights } from "../../lib/kernels.js";
import { KvPool } from "../../lib/kv-pool.js";
import { KvSequence } from "../../lib/kv-sequence.js";
import { Model } from "../../lib/model.js";
import { native } from "../../lib/native.js";
import { Runtime } from "../../lib/runtime.js";
import { Samples } from "../../lib/samples.js";
import { Scheduler } from "../../lib/scheduler.js";
import { Sequence } from "../../lib/sequence.js";
import { TokenDecoder } from "../../lib/text/decoder.js";

type Class = abstract new (...args: never[]) => object;
type Arguments = readonly unknown[];

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

const keysOf = (of: Class) => Reflect.ownKeys(of.prototype).filter((key) => key !== "constructor");
const isGetter = (of: Class, key: PropertyKey) => Object.getOwnPropertyDescriptor(of.prototype, key)?.get !== undefined;

/** What a method, a getter or an iteration fails with, at once or later; nothing where it does not. */
async function failure(of: Class, key: PropertyKey, self: unknown, args: Arguments): Promise<unknown> {
  const { get, value } = Object.getOwnPropertyDescriptor(of.prototype, key)!;
  try {
    const result = await Reflect.apply(get ?? value, self, args);
    if (key === Symbol.asyncIterator) await (result as AsyncIterator<unknown>).next();
    return undefined;
  } catch (error) {
    return error;
  }
}

const classes: Record<string, Class> = {
  Device,
  Program,
  Model,
  Sequence,
  Conversation,
  Generation,
  Samples,
  Runtime,
  Scheduler,
  KvPool,
  KvSequence,
  Tokenizer,
  TokenDecoder,
  Sampler,
  PackedWeights,
};

/** Methods that ask nothing of their receiver before it fails them, or at all. */
const indifferent = new Set<unknown>([
  KvPool.prototype.full,
  Samples.prototype.finish,
  KvSequence.prototype.countShared,
]);

describe.each(Object.entries(classes))("%s", (_, of) => {
  test.each(keysOf(of).map((key) => [String(key), key] as const))(
    "refuses any other receiver for %s",
    async (_, key) => {
      const { value } = Object.getOwnPropertyDescriptor(of.prototype, key)!;
      const receivers = [
        undefined,
        null,
        1,
        "",
        {},
        [],
        () => 1,
        new Date(),
        Object.create(of.prototype),
        new Proxy({}, {}),
      ];
      for (const self of receivers) {
        const error = await failure(of, key, self, [1, 1, 1, 1]);
        // A getter may have nothing to say, a method may not.
        if (error === undefined && (isGetter(of, key) || indifferent.has(value))) continue;
        expect([TypeError, RangeError, CriaError].some((kind) => error instanceof kind)).toBe(true);
      }
    },
  );
});

const value = { id: 0, width: 1 };
const shape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 } as const;
const tokens = Int32Array.of(1, 2);
const batch = batchOf([{ length: 1, past: 0, blocks: [0] }], () => 0, [0]);
const device = new Device({ device: "cpu", threads: 1 });
const weight = native.matrixCreate(device.handle, "f32", 1, 1);
const cache = native.cacheCreate(device.handle, shape, 1);
const rope = { heads: 1, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };

function finishedProgram(): Program {
  const program = new Program(device, shape);
  program.finish(program.value("outputs", 1));
  return program;
}

/** A model of its own, and something of it, which its disposal takes along. */
async function ofDisposedModel<T>(make: (of: Model) => T): Promise<T> {
  const other = await loadModel(tinyModel);
  const made = make(other);
  other.dispose();
  return made;
}

function disposed<T extends { dispose(): void }>(object: T): T {
  object.dispose();
  object.dispose();
  return object;
}

interface Subject {
  of: Class;
  make: () => object | Promise<object>;
  /** What its methods take. */
  methods: Record<string, Arguments>;
  /** Methods and getters that need nothing that was given back. */
  stillUsable: readonly string[];
}

const sequenceMethods = {
  belongsTo: [{}],
  forward: [tokens, "last"],
  decode: [1, 1],
  fork: [],
  truncate: [0],
  removeRange: [0, 0],
  save: ["/nonexistent/saved", new Uint8Array(32)],
  load: ["/nonexistent/saved", new Uint8Array(32)],
  dispose: [],
};
const conversationMethods = { say: ["Once"], fork: [], rewind: [1], dispose: [] };

const subjects: Record<string, Subject> = {
  "a device": {
    of: Device,
    make: () => disposed(new Device({ device: "cpu" })),
    methods: { queue: [async () => 1], measureLimit: ["read", 0], dispose: [] },
    stillUsable: ["queue", "dispose"],
  },
  "a program": {
    of: Program,
    make: () => disposed(finishedProgram()),
    methods: {
      value: ["tokens", 1],
      embed: [weight, value],
      rmsNorm: [value, weight, 1, value],
      matmul: [value, weight, value],
      matmulAdd: [value, weight, value],
      matmulSwiGlu: [value, weight, value],
      rope: [value, 0, rope],
      attention: [value, 0, 1, value],
      gather: [value, Int32Array.of(0), value],
      prefixAttention: [value, weight, weight, weight, value],
      swiGlu: [value, value],
      add: [value, value, value],
      select: [value, value],
      finish: [value],
      run: [cache, batch],
      decode: [cache, batch, { steps: 1, candidates: 1, sampling: [{ temperature: 0, topP: 1, seed: 0 }] }],
      dispose: [],
    },
    stillUsable: ["dispose"],
  },
  weights: {
    of: PackedWeights,
    make: () => disposed(new PackedWeights({ type: "f32", rows: 1, cols: 1, data: Float32Array.of(1) })),
    methods: { bytes: [], unpack: [], dispose: [] },
    stillUsable: ["dispose"],
  },
  "a model": {
    of: Model,
    make: async () => disposed(await loadModel(tinyModel)),
    methods: {
      generate: ["Once"],
      chat: [[{ role: "user", content: "Hi" }], { template: "vicuna" }],
      infill: ["def ", ""],
      sample: ["Once", { n: 2 }],
      conversation: [],
      beamSearch: ["Once"],
      logprobs: ["Once"],
      score: ["Once", [" upon"]],
      sequence: [],
      saveSequence: [{}, "/nonexistent/saved"],
      loadSequence: ["/nonexistent/saved"],
      loadAdapter: ["/nonexistent/adapter"],
      setAdapters: [[]],
      dispose: [],
    },
    stillUsable: ["dispose", "device", "config", "adapters"],
  },
  "a sequence": {
    of: Sequence,
    make: () => disposed(model.sequence()),
    methods: sequenceMethods,
    stillUsable: ["dispose", "belongsTo", "length", "tokens", "busy", "disposed"],
  },
  "a conversation": {
    of: Conversation,
    make: () => disposed(model.conversation()),
    methods: conversationMethods,
    stillUsable: ["dispose", "length", "tokens", "turns"],
  },
  "a disposed model's sequence": {
    of: Sequence,
    make: () => ofDisposedModel((of) => of.sequence()),
    methods: sequenceMethods,
    stillUsable: ["dispose", "belongsTo", "length", "tokens", "busy", "disposed", "truncate"],
  },
  "a disposed model's text": {
    of: Generation,
    make: () => ofDisposedModel((of) => of.generate("Once")),
    methods: {},
    stillUsable: ["seed", "result"],
  },
  "a disposed model's texts": {
    of: Samples,
    make: () => ofDisposedModel((of) => of.sample("Once", { n: 2 })),
    methods: { finish: [] },
    stillUsable: ["results"],
  },
};

describe.each(Object.entries(subjects))("%s that was disposed of, twice", (_, { of, make, methods, stillUsable }) => {
  const symbols: Record<symbol, { args: Arguments; usable: boolean }> = {
    [Symbol.dispose]: { args: [], usable: true },
    [Symbol.asyncIterator]: { args: [], usable: false },
  };

  test.each(keysOf(of).map((key) => [String(key), key] as const))("is refused, or of use, in %s", async (name, key) => {
    const args = typeof key === "symbol" ? symbols[key]!.args : isGetter(of, key) ? [] : methods[key];
    expect(args, "arguments, for a method that is new here").toBeDefined();
    const usable = typeof key === "symbol" ? symbols[key]!.usable : stillUsable.includes(name);
    const error = await failure(of, key, await make(), args!);
    const refusal = expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_DISPOSED" });
    expect(error).toEqual(usable ? undefined : refusal);
  });
});
