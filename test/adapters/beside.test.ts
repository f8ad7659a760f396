/** LoRA adapters beside the weights: their logits, and what becomes of sequences where they change. */
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { AdapterSet } from "../../lib/adapters/adapter-set.js";
import { Device } from "../../lib/device.js";
import { loadModel } from "../../lib/index.js";
import { loadLlama } from "../../lib/llama.js";
import { native } from "../../lib/native.js";
import { Runtime } from "../../lib/runtime.js";
import type { LlamaConfig, WeightType } from "../../lib/weights/source.js";
import { WeightStore } from "../../lib/weights/store.js";
import { expectSameBits } from "../support/compare.js";
import { forward64, nmse, type WeightRows } from "../support/float64.js";
import { type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { executions, scalar } from "../support/isas.js";
import {
  type KnownUpdate,
  type KnownUpdates,
  knownUpdates,
  loraGguf,
  mergedRows,
  peftFiles,
  writePeft,
} from "../support/lora.js";
import { randomLlama } from "../support/random-weights.js";
import { load, logitsOf, smallLlama, tokens } from "../support/small-llama.js";
import { encodeTorch } from "../support/torch-writer.js";

/** What float32's rounding leaves, as in test/llama-shapes.test.ts, where sums are of few products. */
const float32 = 1e-11;

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

const smallModel = (type: WeightType, tied = false) =>
  smallLlama(folder, `${type}${tied ? "-tied" : ""}.gguf`, { seed: 11, type, tied });

const referenceOf = (config: LlamaConfig, weights: WeightRows) =>
  forward64({ config, weights }, tokens).flatMap((logits) => [...logits]);

const writeLora = (name: string, updates: KnownUpdates) => folder.write(name, loraGguf(updates));

/** Of every kind of matrix, some of those that share an input, and all. */
const kinds = {
  "q and v": /attn_[qv]/,
  "k alone": /attn_k/,
  "the attention's output": /attn_output/,
  "gate alone": /ffn_gate/,
  "gate and up": /ffn_(gate|up)/,
  down: /ffn_down/,
  "the second layer": /blk\.1\./,
  output: /^output\.weight/,
  embedding: /token_embd/,
  all: /./,
} as const;

describe("the logits with an adapter are those of merged weights in float64", () => {
  test.each(Object.entries(kinds))("of %s", async (kind, targets) => {
    const { path, config, rows } = await smallModel("f32");
    const updates = knownUpdates(config, targets, { seed: 3 });
    const model = await load(path, { adapters: [{ path: await writeLora(`${kind}.gguf`, updates) }] });
    const logits = await logitsOf(model);
    expect(nmse(logits, referenceOf(config, mergedRows(rows, [[updates, 1]])))).toBeLessThan(float32);
    // The adapter is no trifle, not even that of keys, which only moves weights between values that are much alike.
    expect(nmse(logits, referenceOf(config, rows))).toBeGreaterThan(1e5 * float32);
  });

  test("of several, each with its scale", async () => {
    const { path, config, rows } = await smallModel("f16");
    const one = knownUpdates(config, /attn|ffn_down/, { seed: 4 });
    const other = knownUpdates(config, /attn_q|ffn|output|token/, { seed: 5, rank: 3 });
    const [first, second] = [await writeLora("one.gguf", one), await writeLora("other.gguf", other)];
    const model = await load(path, {
      adapters: [
        { path: first, scale: 0.75 },
        { path: second, scale: -1.5 },
      ],
    });
    const merged = mergedRows(rows, [
      [one, 0.75],
      [other, -1.5],
    ]);
    expect(nmse(await logitsOf(model), referenceOf(config, merged))).toBeLessThan(float32);
  });

  test("where the embedding is the output too, either has an adapter of its own", async () => {
    const { path, config, rows } = await smallModel("f32", true);
    const updates = knownUpdates(config, /^output|token_embd/, { seed: 6 });
    const model = await load(path, { adapters: [{ path: await writeLora("tied.gguf", updates) }] });
    expect(nmse(await logitsOf(model), referenceOf(config, mergedRows(rows, [[updates, 1]])))).toBeLessThan(float32);
  });

  test("beside quantised weights, as far as rounded activations allow", async () => {
    const { path, config, rows } = await smallModel("q8_0");
    const updates = knownUpdates(config, /blk/, { seed: 7 });
    const model = await load(path, { adapters: [{ path: await writeLora("q8.gguf", updates) }] });
    const logits = await logitsOf(model);
    expect(nmse(logits, referenceOf(config, mergedRows(rows, [[updates, 1]])))).toBeLessThan(6e-4);
    expect(nmse(logits, referenceOf(config, rows))).toBeGreaterThan(1e-2);
  });
});

describe("what PEFT saved", () => {
  test("gives the bits of the same adapter in a GGUF file, whose queries and keys are ordered otherwise", async () => {
    const { path, config } = await smallModel("f32");
    const updates = knownUpdates(config, /./, { seed: 12 });
    const saved = await writePeft(folder, "peft", peftFiles(config, updates));
    const expected = await logitsOf(await load(path, { adapters: [{ path: await writeLora("same.gguf", updates) }] }));
    expectSameBits(await logitsOf(await load(path, { adapters: [{ path: saved }] })), expected);
  });

  test("gives the same bits from a pickle, as PEFT saved it before there were safetensors", async () => {
    const { path, config } = await smallModel("f32");
    const files = peftFiles(config, knownUpdates(config, /./, { seed: 15 }));
    const saved = await writePeft(folder, "safetensors", files);
    const pickled = await writePeft(folder, "pickle", files);
    const tensors = Object.entries(files.tensors).map(([name, tensor]) => ({
      name,
      type: "f32",
      shape: tensor.shape,
      data: tensor.data!,
    }));
    await folder.write("pickle/adapter_model.bin", encodeTorch(tensors));
    await rm(`${pickled}/adapter_model.safetensors`);
    const expected = await logitsOf(await load(path, { adapters: [{ path: saved }] }));
    expectSameBits(await logitsOf(await load(path, { adapters: [{ path: pickled }] })), expected);
  });

  test("is in the order of a model that pairs halves; a GGUF file is brought to it", async () => {
    const { config: adjacent } = await smallModel("f32");
    const config: LlamaConfig = { ...adjacent, rope: { ...adjacent.rope, pairing: "halves" } };
    const weights = randomLlama(config, { seed: 13, type: "f32" });
    const updates = knownUpdates(config, /./, { seed: 14 });
    using device = new Device();
    using store = new WeightStore(device, weights);
    using runtime = new Runtime(device, config, await loadLlama(config, store), { cache: "f32" });
    const adapters = new AdapterSet(runtime, []);
    const logitsWith = async (path: string) => {
      await adapters.set([{ adapter: await adapters.load(path, { prefixLength: 10, rawGates: false }) }]);
      using sequence = runtime.sequence();
      return await sequence.forward(tokens, "all");
    };
    const logits = await logitsWith(await writePeft(folder, "halves", peftFiles(config, updates)));
    expect(nmse(logits, referenceOf(config, mergedRows(weights, [[updates, 1]])))).toBeLessThan(float32);
    // In a GGUF file the rows of one head that turn together stand side by side.
    const rows = new Map([...updates].map(([name, update]) => [name, inGguf(name, update, config)]));
    expectSameBits(await logitsWith(await writeLora("halves.gguf", rows)), logits);
  });
});

/** An update of a model that pairs halves, with the rows of queries and keys as GGUF has them. */
function inGguf(name: string, update: KnownUpdate, { headDim }: LlamaConfig): KnownUpdate {
  if (!/attn_[qk]/.test(name)) return update;
  const { rank, b } = update;
  const out = new Float32Array(b.length);
  for (let row = 0; row < b.length / rank; row++) {
    const [head, i] = [row - (row % headDim), row % headDim];
    const from = head + (i % 2) * (headDim / 2) + Math.floor(i / 2);
    out.set(b.subarray(from * rank, (from + 1) * rank), row * rank);
  }
  return { ...update, b: out };
}

test("the bits are the same on every instruction set, and on any number of threads", async () => {
  const { path, config } = await smallModel("q8_0");
  const updates = knownUpdates(config, /./, { seed: 10, rank: 5 });
  const adapters = [{ path: await writeLora("bits.gguf", updates) }];
  const expected = await logitsOf(await load(path, { ...scalar, adapters }));
  for (const execution of executions) {
    expectSameBits(await logitsOf(await load(path, { ...execution, adapters })), expected);
  }
});

test.runIf(native.deviceDescribe("cuda-emulated").available)(
  "the logits on a GPU are those of merged weights",
  async () => {
    const { path, config, rows } = await smallModel("f32");
    const updates = knownUpdates(config, /./, { seed: 16 });
    const adapters = [{ path: await writeLora("gpu.gguf", updates) }];
    const model = await load(path, { device: "cuda-emulated", adapters });
    expect(nmse(await logitsOf(model), referenceOf(config, mergedRows(rows, [[updates, 1]])))).toBeLessThan(float32);
    const merged = await load(path, { device: "cuda-emulated", adapters, mergeAdapters: true });
    expect(nmse(await logitsOf(merged), await logitsOf(model))).toBeLessThan(float32);
  },
);

test.runIf(native.deviceDescribe("cuda-emulated").available)(
  "one in a type that a GPU lacks is refused there by its tensor's name, before weights are read",
  async () => {
    const { path, config } = await smallModel("q8_0");
    const sound = await writeLora("float.gguf", knownUpdates(config, /attn_v/, { seed: 17 }));
    const file = loraGguf(knownUpdates(config, /attn_v/, { seed: 17 }));
    const name = "blk.1.attn_v.weight.lora_a";
    const tensor = file.tensors.find((each) => each.name === name)!;
    tensor.type = "q4_1";
    delete tensor.data;
    const adapter = await folder.write("q4_1.gguf", file);
    const refusal = {
      name: "CriaFileError",
      code: "ERR_CRIA_UNSUPPORTED",
      file: adapter,
      subject: name,
      message: expect.stringContaining(', not q4_1; device "cpu" runs it'),
    };
    const onProgress = () => expect.fail("weights were read");
    const adapters = [{ path: sound }, { path: adapter, scale: 0 }];
    for (const mergeAdapters of [false, true]) {
      const loading = loadModel(path, { device: "cuda-emulated", adapters, mergeAdapters, onProgress });
      await expect(loading).rejects.toMatchObject(refusal);
    }
    const onGpu = await load(path, { device: "cuda-emulated" });
    await expect(onGpu.loadAdapter(adapter)).rejects.toMatchObject(refusal);
    const onCpu = await load(path);
    expect((await onCpu.loadAdapter(adapter)).targets).toContain("blk.1.attn_v.weight");
  },
);

describe("adapters that are set", () => {
  const adapted = async () => {
    const { path, config } = await smallModel("f16");
    const one = await writeLora("first.gguf", knownUpdates(config, /attn/, { seed: 8 }));
    const other = await writeLora("second.gguf", knownUpdates(config, /ffn/, { seed: 9 }));
    const model = await load(path);
    return { model, path, one, other };
  };

  test("give, each time, the bits of a model that was loaded with them, and without them its own", async () => {
    const { model, path, one, other } = await adapted();
    const plain = await logitsOf(model);
    const first = await model.loadAdapter(one);
    const second = await model.loadAdapter(other);
    await model.setAdapters([{ adapter: first }]);
    const changed = await logitsOf(model);
    expectSameBits(changed, await logitsOf(await load(path, { adapters: [{ path: one }] })));
    expect(nmse(changed, plain)).toBeGreaterThan(1e-6);

    await model.setAdapters([{ adapter: second, scale: 2 }, { adapter: first }]);
    const both = await logitsOf(model);
    const options = [{ path: other, scale: 2 }, { path: one }];
    expectSameBits(both, await logitsOf(await load(path, { adapters: options })));
    expect(model.adapters).toEqual([
      { adapter: second, scale: 2 },
      { adapter: first, scale: 1 },
    ]);

    await model.setAdapters([{ adapter: first }]);
    expectSameBits(await logitsOf(model), changed);
    await model.setAdapters([{ adapter: first, scale: 0 }]);
    expectSameBits(await logitsOf(model), plain);
    await model.setAdapters([{ adapter: second }]);
    await model.setAdapters([]);
    expectSameBits(await logitsOf(model), plain);
  });

  test("go on working when they were disposed of", async () => {
    const { model, one } = await adapted();
    const adapter = await model.loadAdapter(one);
    await model.setAdapters([{ adapter }]);
    const before = await logitsOf(model);
    adapter.dispose();
    expectSameBits(await logitsOf(model), before);
    await expect(model.setAdapters([{ adapter }])).rejects.toThrow(
      expect.objectContaining({ code: "ERR_CRIA_DISPOSED", message: "adapter: was disposed" }),
    );
    expectSameBits(await logitsOf(model), before);
  });

  test("find no prefix that was read with others", async () => {
    const { model, one } = await adapted();
    const long = Int32Array.from({ length: 40 }, (_, i) => (7 * i) % 300);
    const read = async () => {
      using sequence = model.sequence();
      return await sequence.forward(long, "last");
    };
    const plain = await read();
    const hits = () => model.runtime.pool.statistics.hits;
    expect(model.runtime.pool.statistics.cached).toBe(2);
    await model.setAdapters([{ adapter: await model.loadAdapter(one) }]);
    expect(model.runtime.pool.statistics.cached).toBe(0);
    const changed = await read();
    expect(hits()).toBe(0);
    expect(nmse(changed, plain)).toBeGreaterThan(1e-6);
    expectSameBits(await read(), changed);
    expect(hits()).toBe(2);
    await model.setAdapters([]);
    expectSameBits(await read(), plain);
  });

  test("have a sequence read its tokens again when it goes on", async () => {
    const { model, one } = await adapted();
    using sequence = model.sequence();
    await sequence.forward(tokens.subarray(0, 5), "none");
    using fork = sequence.fork();
    await model.setAdapters([{ adapter: await model.loadAdapter(one) }]);
    const last = await sequence.forward(tokens.subarray(5), "last");
    expectSameBits(last, (await logitsOf(model)).slice(-last.length));
    expect(fork.length).toBe(5);
    expectSameBits(await fork.forward(tokens.subarray(5), "last"), last);
  });

  test("wait for no text: while one is made, none can be set", async () => {
    const { model, one } = await adapted();
    const adapter = await model.loadAdapter(one);
    const plain = await logitsOf(model);
    const busy = expect.objectContaining({
      code: "ERR_CRIA_STATE",
      message: expect.stringContaining("ended its texts"),
    });
    for await (const _ of model.generate(tokens, { maxTokens: 5, ignoreEos: true })) {
      await expect(model.setAdapters([{ adapter }])).rejects.toThrow(busy);
    }
    using sequence = model.sequence();
    const reading = sequence.forward(tokens, "none");
    await expect(model.setAdapters([{ adapter }])).rejects.toThrow(busy);
    await reading;
    expect(model.adapters).toEqual([]);
    expectSameBits(await logitsOf(model), plain);
    await model.setAdapters([{ adapter }]);
    expect(nmse(await logitsOf(model), plain)).toBeGreaterThan(1e-6);
  });

  test("need every sequence to be one that can be read again", async () => {
    const { model, one } = await adapted();
    const adapter = await model.loadAdapter(one);
    const sequence = model.sequence();
    await sequence.forward(tokens, "none");
    await sequence.removeRange(1, 3);
    const fixed = expect.objectContaining({ code: "ERR_CRIA_STATE", message: expect.stringContaining("was removed") });
    await expect(model.setAdapters([{ adapter }])).rejects.toThrow(fixed);
    sequence.dispose();
    await model.setAdapters([{ adapter }]);
  });

  test("are asked for in turn", async () => {
    const { model, one, other } = await adapted();
    const [first, second] = [await model.loadAdapter(one), await model.loadAdapter(other)];
    await Promise.all([model.setAdapters([{ adapter: first }]), model.setAdapters([{ adapter: second }])]);
    expect(model.adapters).toEqual([{ adapter: second, scale: 1 }]);
  });

  test("are told apart in saved sequences", async () => {
    const { model, one } = await adapted();
    const saved = `${folder.path}/saved.cria`;
    const adapter = await model.loadAdapter(one);
    const sequence = model.sequence();
    await sequence.forward(tokens, "none");
    await model.saveSequence(sequence, saved);
    sequence.dispose();
    await model.setAdapters([{ adapter }]);
    await expect(model.loadSequence(saved)).rejects.toThrow(/must be the one of fingerprint/);
    await model.setAdapters([{ adapter, scale: 0.5 }]);
    await expect(model.loadSequence(saved)).rejects.toThrow(/must be the one of fingerprint/);
    await model.setAdapters([]);
    const loaded = await model.loadSequence(saved);
    expect(loaded.length).toBe(tokens.length);
    loaded.dispose();
  });

  test("are those of the model alone, and well described", async () => {
    const { model, path, one } = await adapted();
    const strange = await (await load(path)).loadAdapter(one);
    const cases: [unknown, string][] = [
      [undefined, "adapters: must be an array, not undefined"],
      [{}, "adapters: must be an array, not Object"],
      [[strange], "adapters[0].path: is not an option of an adapter"],
      [[one], "adapters[0]: must be an object, not "],
      [[{ adapter: strange }], "adapters[0].adapter: must be one of this model, not of another"],
      [[{ adapter: one }], `adapters[0].adapter: must be an adapter of this model, not ${JSON.stringify(one)}`],
      [[{ adapter: strange, weight: 1 }], "adapters[0].weight: is not an option of an adapter"],
    ];
    for (const [adapters, message] of cases) {
      await expect(model.setAdapters(adapters as never)).rejects.toThrow(
        expect.objectContaining({ code: "ERR_CRIA_ARGUMENT", message: expect.stringContaining(message.slice(0, 90)) }),
      );
    }
    const own = await model.loadAdapter(one);
    for (const scale of [Number.NaN, Number.POSITIVE_INFINITY, "1", null]) {
      await expect(model.setAdapters([{ adapter: own, scale: scale as never }])).rejects.toThrow(
        /^adapters\[0\]\.scale/,
      );
    }
    await expect(model.loadAdapter(1 as never)).rejects.toThrow("path: must be a string, not 1");
    await expect(load(path, { adapters: [{ path: 3 as never }] })).rejects.toThrow(
      "adapters[0].path: must be a string",
    );
  });

  test("leave no handle behind", async () => {
    const { path, one, other } = await adapted();
    const before = native.handleCounts();
    const model = await loadModel(path, { adapters: [{ path: one }, { path: other }] });
    await logitsOf(model);
    await model.setAdapters([]);
    await logitsOf(model);
    model.dispose();
    expect(native.handleCounts()).toEqual(before);
    await expect(model.loadAdapter(one)).rejects.toThrow(expect.objectContaining({ code: "ERR_CRIA_DISPOSED" }));
    await expect(model.setAdapters([])).rejects.toThrow(expect.objectContaining({ code: "ERR_CRIA_DISPOSED" }));
  });
});
