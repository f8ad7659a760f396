import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";

import { convertModel } from "../lib/convert.js";
import { Device } from "../lib/device.js";
import { modelFingerprint } from "../lib/fingerprint.js";
import { loadLlama } from "../lib/llama.js";
import { loadModel, type ModelOptions } from "../lib/model.js";
import { packModel } from "../lib/pack.js";
import { type Rope, type RopeScaling, ropeDivisors, ropeFrequencies, ropeInContext } from "../lib/rope-scaling.js";
import { Runtime } from "../lib/runtime.js";
import { JsonKeys } from "../lib/weights/json-file.js";
import { readLlama } from "../lib/weights/llama-gguf.js";
import { readHuggingFaceRope, readMetaRope, ropeKeys } from "../lib/weights/rope-keys.js";
import type { WeightType } from "../lib/weights/source.js";
import { fileSource, WeightStore } from "../lib/weights/store.js";
import { expectSameBits } from "./support/compare.js";
import { fileRows, forward64, frequency64, nmse } from "./support/float64.js";
import { f32, type GgufFile, llamaFile, string, temporaryFolder, u32, type Value } from "./support/gguf-writer.js";
import { executions, scalar } from "./support/isas.js";

const factors = fc.constantFrom(1, 1.5, 4, 8, 32);
const contexts = fc.constantFrom(64, 2048, 4096, 8192, 32_768);
const scalings: fc.Arbitrary<RopeScaling | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.record({ type: fc.constant("dynamic" as const), factor: factors, originalContextLength: contexts }),
  fc.record({
    type: fc.constant("yarn" as const),
    factor: factors,
    originalContextLength: contexts,
    betaFast: fc.constantFrom(32, 16, 4),
    betaSlow: fc.constantFrom(1, 2.5),
    truncate: fc.boolean(),
  }),
  fc.record({
    type: fc.constant("llama3" as const),
    factor: factors,
    originalContextLength: contexts,
    lowFrequencyFactor: fc.constantFrom(1, 2),
    highFrequencyFactor: fc.constantFrom(4, 8),
  }),
);
const ropes: fc.Arbitrary<Rope> = fc
  .record({
    theta: fc.constantFrom(10_000, 1e6, 500_000),
    scale: fc.constantFrom(1, 4),
    pairs: fc.integer({ min: 2, max: 64 }),
    scaling: scalings,
    divided: fc.boolean(),
  })
  .map(({ pairs, scaling, divided, ...rope }) => ({
    ...rope,
    dim: 2 * pairs,
    pairing: "adjacent" as const,
    ...(scaling && { scaling }),
    ...(divided && { divisors: Array.from({ length: pairs }, (_, i) => 1 + i / 7) }),
  }));

describe("frequencies", () => {
  test("are those that the scalings' authors wrote down", () => {
    fc.assert(
      fc.property(ropes, contexts, (rope, contextLength) => {
        const frequencies = ropeFrequencies(ropeInContext(rope, contextLength));
        for (let i = 0; i < rope.dim / 2; i++) {
          const { theta, scale, dim } = ropeInContext(rope, contextLength);
          const actual = frequencies?.[i] ?? theta ** ((-2 * i) / dim) / scale;
          const expected = frequency64(rope, i, contextLength);
          expect(Math.abs(actual / expected - 1)).toBeLessThan(1e-12);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("that theta alone gives are left to the op, which has them to the bit", () => {
    const plain = { theta: 10_000, scale: 4, dim: 64, pairing: "halves" } as const;
    expect(ropeFrequencies(plain)).toBeUndefined();
    const scaling = { type: "dynamic", factor: 4, originalContextLength: 2048 } as const;
    expect(ropeInContext({ ...plain, scaling }, 1024)).toEqual(plain);
    expect(ropeInContext({ ...plain, scaling }, 2048)).toEqual(plain);
    expect(ropeInContext({ ...plain, scaling }, 4096).theta).toBeCloseTo(10_000 * 5 ** (64 / 62), 6);
  });

  test("of Llama 3.1 keep 29 pairs of 64, and divide 29 by 8", () => {
    const scaling = { ...llama3, factor: 8, originalContextLength: 8192 } as const;
    const rope = { theta: 500_000, scale: 1, dim: 128, pairing: "halves", scaling } as const;
    const ratios = [...ropeFrequencies(rope)!].map((f, i) => 500_000 ** (-i / 64) / f);
    expect(ratios.filter((ratio) => Math.abs(ratio - 1) < 1e-12).length).toBe(29);
    expect(ratios.filter((ratio) => Math.abs(ratio - 8) < 1e-11).length).toBe(29);
    expect(ratios).toEqual(ratios.toSorted((a, b) => a - b));
  });

  test("of YaRN keep the pairs up to 20 of a LLaMA's 64, and divide those from 46 on", () => {
    const scaling = { type: "yarn", factor: 16, originalContextLength: 4096, ...betas, truncate: true } as const;
    const rope = { theta: 10_000, scale: 1, dim: 128, pairing: "halves", scaling } as const;
    const ratios = [...ropeFrequencies(rope)!].map((f, i) => 10_000 ** (-i / 64) / f);
    expect(ratios.findIndex((ratio) => ratio > 1 + 1e-12)).toBe(21);
    expect(ratios.findIndex((ratio) => ratio > 16 - 1e-10)).toBe(46);
  });
});

const betas = { betaFast: 32, betaSlow: 1 } as const;
const llama3 = { type: "llama3", lowFrequencyFactor: 1, highFrequencyFactor: 4 } as const;

const hf = (config: Readonly<Record<string, unknown>>, contextLength = 4096) =>
  readHuggingFaceRope(new JsonKeys("config.json", config), { headDim: 128, contextLength });
const plain = { theta: 10_000, scale: 1, dim: 128, pairing: "halves" } as const;

describe("Hugging Face's config.json", () => {
  const yarn = { type: "yarn", factor: 16, originalContextLength: 4096, ...betas, truncate: true } as const;
  const read: [what: string, config: Readonly<Record<string, unknown>>, rope: Rope][] = [
    ["nothing", {}, plain],
    ["null", { rope_theta: null, rope_scaling: null }, plain],
    [
      "a base, and a part of each head",
      { rope_theta: 1e6, partial_rotary_factor: 0.5 },
      { ...plain, theta: 1e6, dim: 64 },
    ],
    ["default", { rope_scaling: { rope_type: "default" } }, plain],
    ["linear", { rope_scaling: { type: "linear", factor: 2.5 } }, { ...plain, scale: 2.5 }],
    [
      "dynamic, by the context that the model was trained with",
      { rope_scaling: { type: "dynamic", factor: 2, original_max_position_embeddings: 1024 } },
      { ...plain, scaling: { type: "dynamic", factor: 2, originalContextLength: 4096 } },
    ],
    [
      "llama3",
      {
        rope_theta: 500_000,
        rope_scaling: {
          rope_type: "llama3",
          factor: 32,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
        },
      },
      { ...plain, theta: 500_000, scaling: { ...llama3, factor: 32, originalContextLength: 8192 } },
    ],
    [
      "yarn",
      { rope_scaling: { type: "yarn", factor: 16 } },
      { ...plain, scaling: yarn, magnitude: 0.1 * Math.log(16) + 1 },
    ],
    [
      "yarn with all that it can have",
      {
        original_max_position_embeddings: 2048,
        rope_scaling: {
          rope_type: "yarn",
          factor: 4,
          attention_factor: 1.5,
          beta_fast: 20,
          beta_slow: 2,
          truncate: false,
          original_max_position_embeddings: 1024,
        },
      },
      {
        ...plain,
        scaling: { type: "yarn", factor: 4, originalContextLength: 2048, betaFast: 20, betaSlow: 2, truncate: false },
        magnitude: 1.5,
      },
    ],
    [
      "yarn whose factor is that of the contexts, and whose magnitude is a ratio",
      { rope_scaling: { type: "yarn", original_max_position_embeddings: 1024, mscale: 2, mscale_all_dim: 1 } },
      {
        ...plain,
        scaling: { ...yarn, factor: 4, originalContextLength: 1024 },
        magnitude: (1 + 0.2 * Math.log(4)) / (1 + 0.1 * Math.log(4)),
      },
    ],
    [
      "yarn whose magnitude is 1",
      { rope_scaling: { type: "yarn", factor: 16, mscale: 0.7, mscale_all_dim: 0.7 } },
      { ...plain, scaling: yarn },
    ],
    [
      "rope_parameters",
      { rope_parameters: { rope_theta: 5e5, partial_rotary_factor: 0.25, rope_type: "linear", factor: 2 } },
      { ...plain, theta: 5e5, dim: 32, scale: 2 },
    ],
  ];
  test.each(read)("%s", (_, config, rope) => expect(hf(config)).toEqual(rope));

  const scaling = (of: object, type = "yarn") => ({ rope_scaling: { type, factor: 4, ...of } });
  const refused: [
    subject: string,
    problem: string,
    config: Readonly<Record<string, unknown>>,
    code?: "ERR_CRIA_UNSUPPORTED",
  ][] = [
    ...["longrope", "su", "ntk", "proportional"].map((type): (typeof refused)[number] => [
      "rope_scaling.type",
      `must be "default", "linear", "dynamic", "yarn" or "llama3", not "${type}"`,
      scaling({}, type),
      "ERR_CRIA_UNSUPPORTED",
    ]),
    [
      "rope_parameters.rope_type",
      'must be "default", "linear", "dynamic", "yarn" or "llama3", not "mrope"',
      { rope_parameters: { rope_type: "mrope" } },
      "ERR_CRIA_UNSUPPORTED",
    ],
    ["rope_scaling", "must be an object, not Array", { rope_scaling: [] }],
    ["rope_scaling", 'must be an object, not "yarn"', { rope_scaling: "yarn" }],
    ["rope_scaling.type", "must be a string, not 3", scaling({ type: 3 })],
    ["rope_scaling.factor", "must be a number from 1 to 1e6, not 0.5", scaling({ factor: 0.5 }, "linear")],
    ["rope_scaling.factor", "must be a number from 1 to 1e6, but is missing", scaling({ factor: null }, "linear")],
    ["rope_scaling.factor", 'must be a number from 1 to 1e6, not "4"', scaling({ factor: "4" }, "dynamic")],
    ["rope_scaling.factor", "must be a number from 1 to 1e6, not NaN", scaling({ factor: Number.NaN })],
    ["rope_scaling.beta_fast", "must be above the slow beta, 1, not 1", scaling({ beta_fast: 1 })],
    ["rope_scaling.beta_slow", "must be a number from 1e-6 to 1e6, not 0", scaling({ beta_slow: 0 })],
    ["rope_scaling.attention_factor", "must be a number from 1e-6 to 1e6, not -1", scaling({ attention_factor: -1 })],
    ["rope_scaling.truncate", "must be true or false, not 1", scaling({ truncate: 1 })],
    [
      "rope_scaling.original_max_position_embeddings",
      "must be an integer from 1 to 16777216, not 0",
      scaling({ original_max_position_embeddings: 0 }),
    ],
    [
      "original_max_position_embeddings",
      "must be an integer from 1 to 16777216, not 1.5",
      {
        original_max_position_embeddings: 1.5,
        ...scaling({}),
      },
    ],
    [
      "rope_scaling.low_freq_factor",
      "must be a number from 1e-6 to 1e6, but is missing",
      scaling({ high_freq_factor: 4 }, "llama3"),
    ],
    [
      "rope_scaling.high_freq_factor",
      "must be above low_freq_factor, 4, not 4",
      scaling({ low_freq_factor: 4, high_freq_factor: 4 }, "llama3"),
    ],
    ["rope_theta", "must be a number from 1 to 1e12, not 0", { rope_theta: 0 }],
    ["rope_theta", "must be a number above 1 and at most 1e12, not 1", { rope_theta: 1, ...scaling({}) }],
    [
      "partial_rotary_factor",
      "must give an even number of dimensions, at least 2, not 1 of 128",
      { partial_rotary_factor: 0.01 },
    ],
    [
      "rope_scaling.type",
      'must not be "dynamic" where 2 dimensions turn',
      {
        partial_rotary_factor: 1 / 64,
        ...scaling({}, "dynamic"),
      },
    ],
  ];
  test.each(refused)("refuses %s: %s", (subject, problem, config, code = "ERR_CRIA_FILE" as never) => {
    const error = { name: "CriaFileError", code, message: `config.json: ${subject}: ${problem}` };
    expect(() => hf(config)).toThrow(expect.objectContaining(error));
  });
});

test("Meta's params.json: a base, and Llama 3.1's scaling", () => {
  const meta = (params: Readonly<Record<string, unknown>>) =>
    readMetaRope(new JsonKeys("params.json", params), { headDim: 128 });
  const rope = { theta: 10_000, scale: 1, dim: 128, pairing: "adjacent" } as const;
  const scaling = { ...llama3, factor: 8, originalContextLength: 8192 };
  expect(meta({})).toEqual(rope);
  expect(meta({ rope_theta: 1e6, use_scaled_rope: false })).toEqual({ ...rope, theta: 1e6 });
  expect(meta({ rope_theta: 5e5, use_scaled_rope: true })).toEqual({ ...rope, theta: 5e5, scaling });
  const more = { use_scaled_rope: true, rope_scaling_factor: 32, rope_high_freq_factor: 2 };
  expect(meta(more)).toEqual({ ...rope, scaling: { ...scaling, factor: 32, highFrequencyFactor: 2 } });
  const refused = (params: Readonly<Record<string, unknown>>, message: string) =>
    expect(() => meta(params)).toThrow(expect.objectContaining({ code: "ERR_CRIA_FILE", message }));
  refused({ use_scaled_rope: 1 }, "params.json: use_scaled_rope: must be true or false, not 1");
  refused({ rope_theta: "1e6" }, 'params.json: rope_theta: must be a number from 1 to 1e12, not "1e6"');
  refused({ ...more, rope_high_freq_factor: 1 }, "params.json: rope_high_freq_factor: must be above 1, not 1");
});

describe("GGUF's keys of a rope that was read elsewhere", () => {
  const own = { ...plain, dim: 16, pairing: "adjacent" } as const;
  const yarn = {
    type: "yarn",
    factor: 4,
    originalContextLength: 64,
    betaFast: 16,
    betaSlow: 2,
    truncate: true,
  } as const;
  const ropes: [what: string, rope: Rope][] = [
    ["linear", { ...own, scale: 4 }],
    ["Llama 3.1", { ...own, theta: 5e5, scaling: { ...llama3, factor: 8, originalContextLength: 8192 } }],
    ["YaRN", { ...own, scaling: yarn, magnitude: 0.1 * Math.log(4) + 1 }],
    ["YaRN of another magnitude", { ...own, scaling: yarn }],
    ["a magnitude", { ...own, magnitude: 1.5 }],
  ];
  test.each(ropes)("say the same to float32's accuracy: %s", async (_, rope) => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    Object.assign(file.metadata, ropeKeys(rope));
    const divisors = ropeDivisors(rope);
    const data = divisors && new Uint8Array(Float32Array.from(divisors).buffer);
    if (data) file.tensors.push({ name: "rope_freqs.weight", shape: [8], type: "f32", data });
    const { config } = await readLlama(await folder.write("model.gguf", file));
    expect(config.rope.magnitude ?? 1).toBeCloseTo(rope.magnitude ?? 1, 6);
    for (let i = 0; i < 8; i++) {
      expect(frequency64(config.rope, i, 128) / frequency64(rope, i, 128)).toBeCloseTo(1, 6);
    }
  });

  test.each<[what: string, scaling: RopeScaling]>([
    ["dynamic NTK", { type: "dynamic", factor: 4, originalContextLength: 64 }],
    ["YaRN that does not truncate", { ...yarn, truncate: false }],
  ])("are none for %s", (what, scaling) => {
    const message = `rope scaling: must be one that GGUF has keys for, not ${what}`;
    const error = { code: "ERR_CRIA_UNSUPPORTED", message };
    expect(() => ropeKeys({ ...own, scaling })).toThrow(expect.objectContaining(error));
  });
});

describe("GGUF's keys of YaRN", () => {
  const read = async (keys: Record<string, Value>) => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    const metadata = { ...file.metadata, "llama.rope.scaling.type": string("yarn"), ...keys };
    return (await readLlama(await folder.write("model.gguf", { ...file, metadata }))).config.rope;
  };
  const rope = { theta: 10_000, scale: 1, dim: 16, pairing: "adjacent" };

  test("with the defaults of llama.cpp", async () => {
    const scaling = { type: "yarn", factor: 4, originalContextLength: 128, ...betas, truncate: true };
    const magnitude = 0.1 * Math.log(4) + 1;
    expect(await read({ "llama.rope.scaling.factor": f32(4) })).toEqual({ ...rope, scaling, magnitude });
    expect(await read({})).toEqual({ ...rope, scaling: { ...scaling, factor: 1 } });
  });

  test("with all that they can say", async () => {
    const keys = {
      "llama.rope.scaling.factor": f32(8),
      "llama.rope.scaling.original_context_length": u32(64),
      "llama.rope.scaling.yarn_beta_fast": f32(16),
      "llama.rope.scaling.yarn_beta_slow": f32(2),
      "llama.rope.scaling.yarn_ext_factor": f32(1),
      "llama.rope.scaling.yarn_attn_factor": f32(1.25),
      "llama.rope.scaling.attn_factor": f32(2),
    };
    const scaling = { type: "yarn", factor: 8, originalContextLength: 64, betaFast: 16, betaSlow: 2, truncate: true };
    expect(await read(keys)).toEqual({ ...rope, scaling, magnitude: 2.5 });
  });

  test.each<[key: string, value: Value, problem: string, code?: string]>([
    ["scaling.factor", f32(0.5), "must be 0 or an f32 from 1 to 1e6, not 0.5 (f32)"],
    ["scaling.factor", f32(Number.NaN), "must be 0 or an f32 from 1 to 1e6, not NaN (f32)"],
    ["scaling.original_context_length", u32(0), "must be an integer from 1 to 16777216, not 0 (u32)"],
    ["scaling.yarn_beta_fast", f32(1), "must be above the slow beta, 1, not 1"],
    ["scaling.yarn_beta_slow", f32(-1), "must be an f32 from 1e-6 to 1e6, not -1 (f32)"],
    ["scaling.yarn_log_multiplier", f32(0.5), "must be 0, not 0.5", "ERR_CRIA_UNSUPPORTED"],
    ["scaling.yarn_ext_factor", f32(0), "must be 1, not 0", "ERR_CRIA_UNSUPPORTED"],
    ["scaling.attn_factor", f32(0), "must be an f32 from 1e-6 to 1e6, not 0 (f32)"],
    ["freq_base", f32(1), "must be an f32 above 1 and at most 1e12, not 1 (f32)"],
  ])("refuse %s of %o", async (key, value, problem, code = "ERR_CRIA_FILE") => {
    const error = { code, subject: `llama.rope.${key}`, message: expect.stringContaining(`: ${problem}`) };
    await expect(read({ [`llama.rope.${key}`]: value })).rejects.toMatchObject(error);
  });
});

/** Weights of which the embeddings and the sums are of everyday size. */
function finiteWeights(_: string, type: WeightType, rows: number, cols: number): Uint8Array {
  if (type !== "f32") throw new Error("only f32 is made here");
  let state = rows * 31 + cols;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  return new Uint8Array(Float32Array.from({ length: rows * cols }, () => (rows === 1 ? 1 : next())).buffer);
}

describe("a model with scaled positions", () => {
  const contextLength = 96;
  const tokens = Int32Array.from({ length: contextLength }, (_, i) => (i * 37) % 300);
  const yarn = {
    "llama.rope.scaling.type": string("yarn"),
    "llama.rope.scaling.factor": f32(4),
    "llama.rope.scaling.original_context_length": u32(48),
    "llama.rope.scaling.yarn_beta_fast": f32(4),
  };
  const models: [what: string, keys: Record<string, Value>, divisors?: readonly number[]][] = [
    ["linear scaling", { "llama.rope.scaling.factor": f32(4) }],
    ["YaRN", yarn],
    ["Llama 3.1's divisors", {}, [1, 1, 1.25, 2, 4, 8, 8, 8]],
    ["YaRN and divisors", yarn, [1, 1, 1.25, 2, 4, 8, 8, 8]],
  ];
  const file = (keys: Record<string, Value>, divisors?: readonly number[]): GgufFile => {
    const file = llamaFile({ type: "f32", contextLength, data: finiteWeights });
    Object.assign(file.metadata, keys);
    const data = divisors && new Uint8Array(Float32Array.from(divisors).buffer);
    if (data) file.tensors.push({ name: "rope_freqs.weight", shape: [8], type: "f32", data });
    return file;
  };
  const logitsOf = async (path: string, options: ModelOptions = {}) => {
    const model = await loadModel(path, { cache: "f32", ...scalar, ...options });
    onTestFinished(() => model.dispose());
    return await model.sequence().forward(tokens, "all");
  };

  test.each(models)("has the logits of a float64 pass, on every instruction set: %s", async (_, keys, divisors) => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.gguf", file(keys, divisors));
    const { config, tensors } = await readLlama(path);
    const exact = forward64({ config, weights: fileRows(tensors) }, tokens).flatMap((logits) => [...logits]);
    const logits = await logitsOf(path);
    expect(nmse(logits, exact)).toBeLessThan(1e-10);
    const plain = { ...config, rope: { theta: 10_000, scale: 1, dim: 16, pairing: "adjacent" as const } };
    const unscaled = forward64({ config: plain, weights: fileRows(tensors) }, tokens).flatMap((logits) => [...logits]);
    expect(nmse(unscaled, exact)).toBeGreaterThan(1e-4); // else the bound above would see nothing
    for (const execution of executions) expectSameBits(await logitsOf(path, execution), logits);
  });

  test("says the same when it is packed", async () => {
    await using folder = await temporaryFolder();
    for (const [, keys, divisors] of models) {
      const path = await folder.write("model.gguf", file(keys, divisors));
      const packed = `${path}.packed`;
      await packModel(path, packed);
      expectSameBits(await logitsOf(packed), await logitsOf(path));
    }
  });

  test("says the same when it is converted", async () => {
    await using folder = await temporaryFolder();
    for (const [, keys, divisors] of models) {
      const path = await folder.write("model.gguf", file(keys, divisors));
      const [packed, converted, again] = ["packed", "converted", "again"].map((ending) => `${path}.${ending}`) as [
        string,
        string,
        string,
      ];
      await packModel(path, packed);
      await convertModel(path, converted);
      await convertModel(packed, again);
      expectSameBits(await logitsOf(converted), await logitsOf(path));
      expectSameBits(await logitsOf(again), await logitsOf(path));
    }
  });

  test("of dynamic NTK turns by the context that it was opened with", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.gguf", file({}));
    const { config, tensors } = await readLlama(path);
    const scaling = { type: "dynamic", factor: 4, originalContextLength: contextLength } as const;
    const dynamic = { ...config, rope: { ...config.rope, scaling } };
    using device = new Device(scalar);
    using source = fileSource(tensors);
    using store = new WeightStore(device, source);
    const weights = await loadLlama(dynamic, store);
    const seen = new Set<string>();
    for (const context of [48, contextLength, 2 * contextLength]) {
      using runtime = new Runtime(device, dynamic, weights, { cache: "f32", contextLength: context });
      const some = tokens.subarray(0, 48);
      const exact = forward64({ config: { ...dynamic, contextLength: context }, weights: fileRows(tensors) }, some);
      const logits = await runtime.sequence().forward(some, "all");
      expect(
        nmse(
          logits,
          exact.flatMap((logits) => [...logits]),
        ),
      ).toBeLessThan(1e-10);
      seen.add(modelFingerprint(runtime.config, store).toString("hex"));
    }
    // A cache of the longer context is another's; the shorter turn as the original does.
    expect(seen.size).toBe(2);
  });
});
