import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Xoshiro128 } from "../lib/random.js";
import { Sampler, type SamplerOptions } from "../lib/sampler.js";

/** No rule but those that a test names. */
const plain = { temperature: 1, topK: 0, topP: 1, minP: 0, repeatPenalty: 1, repeatLastN: 64, seed: 7 };

/** Each token's probability by the definition, in float64: all sorted, each rule a filter over all. */
function distribution(logits: Float32Array, options: Required<SamplerOptions>): number[] {
  const softmax = (values: number[]) => {
    const max = Math.max(...values);
    const numerators = values.map((value) => Math.exp(value - max));
    const sum = numerators.reduce((a, b) => a + b, 0);
    return numerators.map((numerator) => numerator / sum);
  };
  let order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (options.topK > 0) order = order.slice(0, options.topK);
  const p = softmax(order.map((id) => logits[id]!));
  let before = 0;
  order = order.filter((_, i) => {
    const keep = i === 0 || (before < options.topP && p[i]! >= options.minP * p[0]!);
    before += p[i]!;
    return keep;
  });
  const result = new Array<number>(logits.length).fill(0);
  softmax(order.map((id) => logits[id]! / options.temperature)).forEach((p, i) => {
    result[order[i]!] = p;
  });
  return result;
}

/** Logits like a model's: the token of rank r has about 1 / r of the best one's probability (Zipf's law). */
function modelLogits(vocab: number, seed: number): Float32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Float32Array.from({ length: vocab }, () => -Math.log((random.next() + 1) / 2 ** 32) - 4);
}

const draws = (sampler: Sampler, logits: Float32Array, count: number): number[] =>
  Array.from({ length: count }, () => sampler.sample(logits));

describe("the distribution", () => {
  it.for<[string, Partial<SamplerOptions>]>([
    ["no rule", {}],
    ["a low temperature", { temperature: 0.4 }],
    ["a high temperature", { temperature: 3 }],
    ["top-k", { topK: 12 }],
    ["top-k of 1", { topK: 1 }],
    ["top-k above the vocabulary", { topK: 1000 }],
    ["top-p", { topP: 0.7 }],
    ["top-p of 0", { topP: 0 }],
    ["min-p", { minP: 0.1 }],
    ["min-p of 1", { minP: 1 }],
    ["top-k and top-p, a high temperature last", { topK: 20, topP: 0.6, temperature: 5 }],
    ["top-p, min-p and a low temperature last", { topP: 0.9, minP: 0.2, temperature: 0.2 }],
    ["llama.cpp's defaults", { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 }],
  ])("is the definition's with %s", ([, rules]) => {
    const options = { ...plain, ...rules };
    const logits = modelLogits(60, 3);
    const expected = distribution(logits, options);
    const count = 20_000;
    const counts = new Array<number>(logits.length).fill(0);
    for (const id of draws(new Sampler(options), logits, count)) counts[id]!++;
    for (const [id, p] of expected.entries()) {
      // Five standard deviations of a binomial: chance exceeds it once in a million tokens; the seed is fixed.
      const tolerance = 5 * Math.sqrt((p * (1 - p)) / count);
      expect(Math.abs(counts[id]! / count - p), `token ${id}, p ${p}`).toBeLessThanOrEqual(tolerance);
    }
  });

  it("leaves exactly the definition's tokens, of any logits, ties included", () => {
    const logits = fc.array(fc.integer({ min: -6, max: 6 }), { minLength: 1, maxLength: 40 });
    const rules = fc.record({
      topK: fc.nat(45),
      topP: fc.constantFrom(0, 0.31, 0.77, 0.93, 1),
      minP: fc.constantFrom(0, 0.01, 0.11, 0.51),
    });
    fc.assert(
      fc.property(logits, rules, fc.nat(), (logits, rules, seed) => {
        // So hot that all that are left are about as likely.
        const options = { ...plain, ...rules, temperature: 1e6, seed };
        const values = Float32Array.from(logits);
        const possible = distribution(values, options).flatMap((p, id) => (p > 0 ? [id] : []));
        // 40 tokens at most: one is missed in 1,000 draws once in 10^11 times.
        const drawn = new Set(draws(new Sampler(options), values, 1000));
        expect([...drawn].sort((a, b) => a - b)).toEqual(possible);
      }),
    );
  });

  it("takes the best of a whole vocabulary", () => {
    const logits = modelLogits(32_000, 5);
    for (const rules of [{ topK: 40 }, { topP: 0.05 }, { minP: 0.7 }]) {
      const options = { ...plain, ...rules, temperature: 1e6 };
      const possible = distribution(logits, options).flatMap((p, id) => (p > 0 ? [id] : []));
      expect(possible.length).toBeLessThan(50);
      const drawn = new Set(draws(new Sampler(options), logits, 1000));
      expect([...drawn].sort((a, b) => a - b)).toEqual(possible);
    }
  });
});

describe("greedy", () => {
  it("takes the best token, of equal ones the first", () => {
    const sampler = new Sampler({ temperature: 0 });
    expect(sampler.sample(Float32Array.of(1, 3, 2))).toBe(1);
    expect(sampler.sample(Float32Array.of(1, 3, 2, 3))).toBe(1);
    expect(sampler.sample(Float32Array.of(-0, 0))).toBe(0);
  });
});

describe("the repetition penalty", () => {
  const greedy = (options: SamplerOptions, accepted: number[], logits: number[]): number => {
    const sampler = new Sampler({ temperature: 0, ...options });
    for (const token of accepted) sampler.accept(token);
    return sampler.sample(Float32Array.from(logits));
  };

  it("divides logits above 0 and multiplies those below", () => {
    expect(greedy({ repeatPenalty: 2 }, [0], [4, 1.9])).toBe(0);
    expect(greedy({ repeatPenalty: 2 }, [0], [4, 2.1])).toBe(1);
    expect(greedy({ repeatPenalty: 2 }, [0], [-1, -2.1])).toBe(0);
    expect(greedy({ repeatPenalty: 2 }, [0], [-1, -1.9])).toBe(1);
    expect(greedy({ repeatPenalty: 0.5 }, [1], [1.9, 1])).toBe(1);
  });

  it("counts a token once however often it was said", () => {
    expect(greedy({ repeatPenalty: 2 }, [0, 0, 0], [4, 1.9])).toBe(0);
  });

  it("forgets what is not among the last", () => {
    expect(greedy({ repeatPenalty: 2, repeatLastN: 2 }, [0, 1], [4, 2.1, 3])).toBe(2);
    expect(greedy({ repeatPenalty: 2, repeatLastN: 2 }, [0, 1, 1], [4, 2.1, 3])).toBe(0);
    expect(greedy({ repeatPenalty: 2, repeatLastN: 2 }, [0, 0, 1], [4, 2.1, 3])).toBe(2);
    expect(greedy({ repeatPenalty: 2, repeatLastN: 0 }, [0], [4, 2.1])).toBe(0);
  });

  it("ignores tokens that the logits do not have", () => {
    expect(greedy({ repeatPenalty: 2 }, [5], [4, 2.1])).toBe(0);
  });

  it("comes before the other rules", () => {
    const sampler = new Sampler({ ...plain, repeatPenalty: 2, topK: 1 });
    sampler.accept(0);
    expect(sampler.sample(Float32Array.of(4, 2.1))).toBe(1);
  });
});

describe("the seed", () => {
  const logits = modelLogits(1000, 1);

  it("decides the tokens", () => {
    const first = draws(new Sampler({ seed: 42 }), logits, 50);
    expect(draws(new Sampler({ seed: 42 }), logits, 50)).toEqual(first);
    expect(draws(new Sampler({ seed: 43 }), logits, 50)).not.toEqual(first);
  });

  it("is random without one, and can be asked for", () => {
    const sampler = new Sampler();
    expect(new Sampler().seed).not.toBe(sampler.seed);
    const tokens = draws(sampler, logits, 50);
    expect(draws(new Sampler({ seed: sampler.seed }), logits, 50)).toEqual(tokens);
  });

  it("drives xoshiro128**", () => {
    const random = new Xoshiro128([1, 2, 3, 4]);
    // The test vector of Rust's rand_xoshiro, made by the authors' C code.
    const expected = [
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ];
    expect(Array.from(expected, () => random.next())).toEqual(expected);
  });
});

describe("logits", () => {
  it("are not changed, and may change in number", () => {
    const sampler = new Sampler({ repeatPenalty: 2, seed: 1 });
    sampler.accept(0);
    for (const vocab of [100, 300, 50]) {
      const logits = modelLogits(vocab, vocab);
      const copy = logits.slice();
      expect(sampler.sample(logits)).toBeLessThan(vocab);
      expect(logits).toEqual(copy);
    }
  });

  it("that are NaN or -Infinity are never chosen", () => {
    const { NaN: nan, NEGATIVE_INFINITY: never } = Number;
    const odd = Float32Array.of(nan, 1, never, 1.5, nan);
    for (const rules of [{}, { topK: 1 }, { topK: 4 }, { topP: 0.99 }, { minP: 0.01 }]) {
      const drawn = new Set(draws(new Sampler({ ...plain, ...rules }), odd, 200));
      expect([...drawn].sort()).toEqual("topK" in rules && rules.topK === 1 ? [3] : [1, 3]);
    }
    expect(new Sampler({ temperature: 0 }).sample(odd)).toBe(3);
  });

  it("that are Infinity are always chosen", () => {
    const odd = Float32Array.of(Number.NaN, 1, Number.POSITIVE_INFINITY, 1.5);
    for (const rules of [{}, { topK: 2 }, { topP: 0.99 }, { minP: 0.01 }, { temperature: 0 }]) {
      expect(new Set(draws(new Sampler({ ...plain, ...rules }), odd, 50))).toEqual(new Set([2]));
    }
  });

  it("that are none are an error", () => {
    for (const temperature of [0, 1]) {
      for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
        const sample = () => new Sampler({ temperature }).sample(new Float32Array(9).fill(value));
        expect(sample).toThrow(expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_INTERNAL" }));
      }
    }
  });
});

describe("wrong arguments", () => {
  const error = (type: ErrorConstructor, name: string) =>
    expect.objectContaining({
      code: "ERR_CRIA_ARGUMENT",
      name: type.name,
      message: expect.stringMatching(`^${name}: must be`),
    });

  it.for<[keyof SamplerOptions, number[]]>([
    ["temperature", [-0.1, Number.NaN, Number.POSITIVE_INFINITY]],
    ["topK", [-1, 0.5, Number.NaN]],
    ["topP", [-0.1, 1.1, Number.NaN]],
    ["minP", [-0.1, 1.1, Number.NaN]],
    ["repeatPenalty", [0, -1, 101, Number.NaN]],
    ["repeatLastN", [-1, 0.5]],
    ["seed", [-1, 0.5, 2 ** 32, Number.NaN]],
  ])("are refused: %s", ([name, values]) => {
    for (const value of values) expect(() => new Sampler({ [name]: value })).toThrow(error(RangeError, name));
    for (const value of ["1", null, 1n]) expect(() => new Sampler({ [name]: value })).toThrow(error(TypeError, name));
    expect(() => new Sampler({ [name]: undefined })).not.toThrow();
  });

  it("are refused: the options, logits and tokens", () => {
    const sampler = new Sampler();
    expect(() => new Sampler(7 as never)).toThrow(error(TypeError, "options"));
    expect(() => sampler.sample([1, 2] as never)).toThrow(error(TypeError, "logits"));
    expect(() => sampler.sample(new Float32Array(0))).toThrow(error(RangeError, "logits.length"));
    expect(() => sampler.accept(-1)).toThrow(error(RangeError, "token"));
    expect(() => sampler.accept("1" as never)).toThrow(error(TypeError, "token"));
  });
});
