import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Xoshiro128 } from "../../lib/random.js";
import { type Distribution, Sampler, type SamplerOptions } from "../../lib/sampling/sampler.js";
import { chiSquare } from "../support/chi-square.js";

/** No rule but those that a test names. */
const plain = { temperature: 1, topK: 0, typicalP: 1, topP: 1, minP: 0, seed: 7 };
type Rules = typeof plain;

function softmax(values: readonly number[]): number[] {
  const max = Math.max(...values);
  const numerators = values.map((value) => (value === max ? 1 : Math.exp(value - max)));
  const sum = numerators.reduce((a, b) => a + b, 0);
  return numerators.map((numerator) => numerator / sum);
}

/** The fewest of the first whose probabilities sum to at least `p`. */
function fewest(ids: readonly number[], probability: (id: number) => number, p: number): number[] {
  let before = 0;
  return ids.filter((id, i) => {
    const keep = p === 1 || i === 0 || before < p;
    before += probability(id);
    return keep;
  });
}

/** Each token's probability by the definition, in float64: all sorted, each rule a filter over all that are left. */
function reference(logits: Float32Array, { temperature, topK, typicalP, topP, minP }: Rules): number[] {
  const among = (ids: readonly number[], temperature = 1) => {
    const probabilities = softmax(ids.map((id) => logits[id]! / temperature));
    return (id: number) => probabilities[ids.indexOf(id)]!;
  };
  let left = Array.from(logits.keys())
    .filter((id) => logits[id]! > Number.NEGATIVE_INFINITY)
    .sort((a, b) => (logits[a] === logits[b] ? a - b : logits[b]! - logits[a]!));
  if (topK > 0) left = left.slice(0, topK);

  const p = among(left);
  const surprisal = (id: number) => -Math.log(p(id));
  const entropy = left.reduce((sum, id) => sum + (p(id) > 0 ? p(id) * surprisal(id) : 0), 0);
  const strangeness = (id: number) => Math.abs(surprisal(id) - entropy);
  if (typicalP < 1) {
    const typical = left.toSorted((a, b) => (logits[a] === logits[b] ? a - b : strangeness(a) - strangeness(b)));
    const kept = fewest(typical, p, typicalP);
    left = left.filter((id) => kept.includes(id));
  }
  left = fewest(left, among(left), topP);
  const q = among(left);
  left = left.filter((id) => q(id) >= minP * q(left[0]!));
  const last = among(left, temperature);
  return Array.from(logits.keys(), (id) => (left.includes(id) ? last(id) : 0));
}

/** As the reference gives it. */
function dense({ ids, probabilities }: Distribution, vocab: number): number[] {
  const result = new Array<number>(vocab).fill(0);
  ids.forEach((id, i) => {
    result[id] = probabilities[i]!;
  });
  return result;
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [id, p] of expected.entries()) {
    if (p === 0) expect(actual[id], `token ${id}`).toBe(0);
    else expect(Math.abs(actual[id]! / p - 1), `token ${id}, p ${p}`).toBeLessThan(1e-9);
  }
}

/** Logits like a model's: the token of rank r has about 1 / r of the best one's probability (Zipf's law). */
function modelLogits(vocab: number, seed: number): Float32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Float32Array.from({ length: vocab }, () => -Math.log((random.next() + 1) / 2 ** 32) - 4);
}

const draws = (sampler: Sampler, logits: Float32Array, count: number): number[] =>
  Array.from({ length: count }, () => sampler.sample(logits));

describe("the distribution", () => {
  it.for<[string, Partial<Rules>]>([
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
    ["typical-p", { typicalP: 0.6 }],
    ["typical-p of 0", { typicalP: 0 }],
    ["top-k, typical-p, top-p and min-p", { topK: 30, typicalP: 0.8, topP: 0.7, minP: 0.1 }],
    ["top-k and top-p, a high temperature last", { topK: 20, topP: 0.6, temperature: 5 }],
    ["top-p, min-p and a low temperature last", { topP: 0.9, minP: 0.2, temperature: 0.2 }],
    ["llama.cpp's defaults", { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 }],
  ])("is the definition's with %s", ([, rules]) => {
    const options = { ...plain, ...rules };
    const logits = modelLogits(60, 3);
    expectClose(dense(new Sampler(options).distribution(logits), 60), reference(logits, options));
  });

  it("is the definition's, of any logits, ties and what is no number included", () => {
    const logit = fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: -6, max: 6 }) },
      { weight: 20, arbitrary: fc.integer({ min: -6000, max: 6000 }).map((logit) => logit / 997) },
      fc.constantFrom(Number.NaN, Number.NEGATIVE_INFINITY),
    );
    const rules = fc.record({
      topK: fc.oneof(fc.constant(0), fc.nat(45)),
      typicalP: fc.constantFrom(0, 0.23, 0.67, 0.97, 1),
      topP: fc.constantFrom(0, 0.31, 0.77, 0.93, 1),
      minP: fc.constantFrom(0, 0.011, 0.11, 0.51),
      temperature: fc.constantFrom(0.3, 1, 4),
    });
    fc.assert(
      fc.property(fc.array(logit, { minLength: 1, maxLength: 40 }), rules, (logits, rules) => {
        const values = Float32Array.of(...logits, 0.5); // one at least is a number
        const { ids, probabilities } = new Sampler({ ...rules, seed: 1 }).distribution(values);
        expect(new Set(ids).size).toBe(ids.length);
        expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
        expectClose(dense({ ids, probabilities }, values.length), reference(values, { ...plain, ...rules }));
      }),
      { numRuns: 2000 },
    );
  });

  it("is what sample draws from: chi-square", () => {
    const options = { ...plain, typicalP: 0.97, topP: 0.93, temperature: 1.3 };
    const logits = modelLogits(60, 3);
    const sampler = new Sampler(options);
    const { ids, probabilities } = sampler.distribution(logits);
    const expected = new Map(Array.from(ids, (id, i) => [id, probabilities[i]! * 20_000]));
    const counts = new Map<number, number>();
    for (const id of draws(sampler, logits, 20_000)) counts.set(id, (counts.get(id) ?? 0) + 1);
    expect([...counts.keys()].filter((id) => !expected.has(id))).toEqual([]);
    expect(expected.size).toBeGreaterThan(15);
    expect(Math.min(...expected.values())).toBeGreaterThan(5);
    let chiSquare = 0;
    for (const [id, mean] of expected) chiSquare += ((counts.get(id) ?? 0) - mean) ** 2 / mean;
    // Mean n, variance 2n: five standard deviations above. The seed is fixed.
    const n = expected.size - 1;
    expect(chiSquare).toBeLessThan(n + 5 * Math.sqrt(2 * n));
  });

  it("is drawn from anew each time: chi-square of pairs", () => {
    const sampler = new Sampler({ ...plain, topK: 8 });
    const logits = modelLogits(60, 3);
    const { ids, probabilities } = sampler.distribution(logits);
    const shares = Array.from(ids, (id, i) => [id, probabilities[i]!] as const);
    const pairs = new Map(shares.flatMap(([a, p]) => shares.map(([b, q]) => [`${a} ${b}`, p * q] as const)));
    const drawn = draws(sampler, logits, 40_000);
    const counts = new Map<string, number>();
    for (let i = 1; i < drawn.length; i++) {
      const pair = `${drawn[i - 1]} ${drawn[i]}`;
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
    const { statistic, limit } = chiSquare(counts, pairs);
    expect(statistic).toBeLessThan(limit);
  });

  it("is drawn from alike in any order", () => {
    const { ids, probabilities } = new Sampler({ ...plain, topK: 40 }).distribution(modelLogits(60, 3));
    const turned = { ids: ids.toReversed(), probabilities: probabilities.toReversed() };
    const [one, other] = [new Sampler(plain), new Sampler(plain)];
    for (let i = 0; i < 1000; i++) expect(other.draw(turned)).toBe(one.draw({ ids, probabilities }));
  });

  it.for([1e-5, 1e-3, 1e-1])("is drawn from alike where logits differ by some %f", (noise) => {
    const [samplers, vocab] = [[new Sampler({ seed: 3 }), new Sampler({ seed: 3 })] as const, 60];
    const random = Xoshiro128.fromSeed(9);
    let [different, mostExpected] = [0, 0];
    for (let i = 0; i < 10_000; i++) {
      const logits = modelLogits(vocab, i);
      const near = logits.map((logit) => logit + noise * (random.next() / 2 ** 31 - 1));
      const [p, q] = [logits, near].map((each) => dense(new Sampler({ seed: 3 }).distribution(each), vocab)) as [
        number[],
        number[],
      ];
      const distance = p.reduce((sum, share, id) => sum + Math.abs(share - q[id]!), 0) / 2;
      mostExpected += (2 * distance) / (1 + distance);
      if (samplers[0].sample(logits) !== samplers[1].sample(near)) different += 1;
    }
    // Binomial at most, so that five deviations are chance's once in three million.
    expect(different).toBeLessThanOrEqual(mostExpected + 5 * Math.sqrt(mostExpected) + 1);
  });

  it("takes the best of a whole vocabulary", () => {
    const logits = modelLogits(32_000, 5);
    const sorted = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);
    for (const rules of [{ topK: 40 }, { topP: 0.05 }, { minP: 0.7 }]) {
      const { ids } = new Sampler({ ...plain, ...rules }).distribution(logits);
      expect(ids.length).toBeLessThan(50);
      expect(new Set(ids)).toEqual(new Set(sorted.slice(0, ids.length)));
    }
  });

  it("of a typical-p leaves out the best token where it is no surprise", () => {
    // One of 0.4 and 60 of 0.01: the entropy, 3.1, is nearer to their surprisal, 4.6, than to 0.9.
    const logits = Float32Array.of(Math.log(0.4), ...new Array<number>(60).fill(Math.log(0.01)));
    const { ids } = new Sampler({ ...plain, typicalP: 0.295 }).distribution(logits);
    expect(ids).not.toContain(0);
    expect(ids.length).toBe(30);
  });

  it("of a temperature of 0 is the best token", () => {
    const { ids, probabilities } = new Sampler({ temperature: 0, typicalP: 0.1 }).distribution(modelLogits(60, 3));
    expect(ids.length).toBe(1);
    expect(probabilities).toEqual(Float64Array.of(1));
  });

  it("that was altered can be drawn from", () => {
    const sampler = new Sampler(plain);
    const altered = { ids: Int32Array.of(4, 9, 2), probabilities: Float64Array.of(0.2, 0, 0.1) };
    const drawn = Array.from({ length: 3000 }, () => sampler.draw(altered));
    expect(new Set(drawn)).toEqual(new Set([4, 2]));
    expect(Math.abs(drawn.filter((id) => id === 4).length / 3000 - 2 / 3)).toBeLessThan(0.05);
    expect(() => sampler.draw({ ids: Int32Array.of(1), probabilities: Float64Array.of(0) })).toThrow(RangeError);
  });
});

describe("the logit bias", () => {
  const logits = Float32Array.of(1, 3, 2);

  it.for([
    ["an object", { 2: 1.5 }],
    ["a Map", new Map([[2, 1.5]])],
    ["a ban", { 1: Number.NEGATIVE_INFINITY }],
  ] as const)("is added: %s", ([, logitBias]) => {
    expect(new Sampler({ temperature: 0, logitBias }).sample(logits)).toBe(2);
  });

  it("comes before the penalties", () => {
    // With the penalty first, 3 / 2 - 1 is above 0.4.
    const sampler = new Sampler({ temperature: 0, logitBias: { 1: -1 }, repeatPenalty: 4 });
    sampler.accept(1);
    expect(sampler.sample(Float32Array.of(0.4, 3))).toBe(1);
    expect(sampler.sample(Float32Array.of(0.6, 3))).toBe(0);
  });

  it("ignores tokens that the logits do not have, and refuses to ban all", () => {
    expect(new Sampler({ temperature: 0, logitBias: { 9: 5 } }).sample(logits)).toBe(1);
    const never = Number.NEGATIVE_INFINITY;
    const ban = new Sampler({ logitBias: { 0: never, 1: never, 2: never } });
    expect(() => ban.sample(logits)).toThrow(
      expect.objectContaining({ name: "RangeError", code: "ERR_CRIA_ARGUMENT" }),
    );
  });

  it("leaves banned tokens out, for that once", () => {
    const sampler = new Sampler({ temperature: 0, logitBias: { 1: 5 } });
    expect(sampler.sample(logits, [1])).toBe(2);
    expect(sampler.sample(logits, [1, 2, 7])).toBe(0);
    expect(sampler.sample(logits)).toBe(1);
    expect(sampler.distribution(logits, [1]).ids).not.toContain(1);
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

  it("counts the prompt", () => {
    const sampler = new Sampler({ temperature: 0, repeatPenalty: 2, repeatLastN: 2 });
    sampler.acceptPrompt(Int32Array.of(0, 2));
    expect(sampler.sample(Float32Array.of(4, 2.1))).toBe(1);
    sampler.accept(2);
    expect(sampler.sample(Float32Array.of(4, 2.1))).toBe(0);
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

describe("the presence and frequency penalties", () => {
  it("are OpenAI's, over all that was generated and not the prompt", () => {
    const accepted = fc.array(fc.nat(12), { maxLength: 100 });
    const penalty = fc.float({ min: -2, max: 2, noNaN: true });
    fc.assert(
      fc.property(accepted, accepted, penalty, penalty, (prompt, generated, presencePenalty, frequencyPenalty) => {
        const logits = modelLogits(10, 2);
        const sampler = new Sampler({ ...plain, presencePenalty, frequencyPenalty });
        sampler.acceptPrompt(Int32Array.from(prompt));
        for (const token of generated) sampler.accept(token);
        const penalised = logits.map((logit, id) => {
          const count = generated.filter((token) => token === id).length;
          return logit - count * frequencyPenalty - (count > 0 ? 1 : 0) * presencePenalty;
        });
        const expected = reference(penalised, plain);
        for (const [id, p] of dense(sampler.distribution(logits), 10).entries()) {
          // A penalised logit of up to 200 is a float32: it is 2^-17 off at most.
          expect(Math.abs(p - expected[id]!)).toBeLessThan(2e-5);
        }
      }),
    );
  });

  it("come after the repetition penalty", () => {
    const sampler = new Sampler({ temperature: 0, repeatPenalty: 2, presencePenalty: 1 });
    sampler.accept(0);
    expect(sampler.sample(Float32Array.of(6, 1.9))).toBe(0); // 6 / 2 - 1 = 2, and not (6 - 1) / 2
    expect(sampler.sample(Float32Array.of(6, 2.1))).toBe(1);
  });
});

describe("what was accepted", () => {
  const options = { ...plain, repeatPenalty: 1.7, presencePenalty: 0.3, frequencyPenalty: 0.2 };
  const logits = modelLogits(8, 4);
  const steps = fc.array(fc.oneof(fc.nat(7), fc.constant("retract" as const)), { maxLength: 60 });

  it("can be taken back, as if it had never been", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(7), { maxLength: 8 }), steps, fc.nat(6), (prompt, steps, repeatLastN) => {
        const sampler = new Sampler({ ...options, repeatLastN });
        sampler.acceptPrompt(Int32Array.from(prompt));
        const accepted: number[] = [];
        for (const step of steps) {
          if (step !== "retract") {
            sampler.accept(step);
            accepted.push(step);
          } else if (accepted.length > 0) {
            sampler.retract(1);
            accepted.pop();
          }
        }
        const fresh = new Sampler({ ...options, repeatLastN });
        fresh.acceptPrompt(Int32Array.from(prompt));
        for (const token of accepted) fresh.accept(token);
        expect(sampler.distribution(logits)).toEqual(fresh.distribution(logits));
        sampler.retract(accepted.length + prompt.length);
        expect(sampler.distribution(logits)).toEqual(new Sampler(plain).distribution(logits));
        expect(() => sampler.retract(1)).toThrow(RangeError);
      }),
    );
  });

  it("a fork knows too, and goes its own way", () => {
    const sampler = new Sampler({ ...options, logitBias: { 3: 1 }, typicalP: 0.99 });
    for (const token of [1, 1, 3]) sampler.accept(token);
    sampler.sample(logits);
    const [same, other] = [sampler.fork(), sampler.fork(99)];
    expect(dense(other.distribution(logits), 8)).toEqual(dense(sampler.distribution(logits), 8));
    const drawn = draws(sampler, logits, 50);
    expect(draws(same, logits, 50)).toEqual(drawn);
    expect(draws(other, logits, 50)).not.toEqual(drawn);
    expect([same.seed, other.seed]).toEqual([7, 99]);
    const before = dense(sampler.distribution(logits), 8);
    other.accept(3);
    same.retract(1);
    expect(dense(sampler.distribution(logits), 8)).toEqual(before);
    expect(dense(other.distribution(logits), 8)).not.toEqual(before);
    expect(dense(same.distribution(logits), 8)).not.toEqual(before);
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
        expect(sample).toThrow(expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_NUMBERS" }));
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
    ["typicalP", [-0.1, 1.1, Number.NaN]],
    ["presencePenalty", [-101, 101, Number.NaN]],
    ["frequencyPenalty", [-101, 101, Number.NaN]],
    ["seed", [-1, 0.5, 2 ** 32, Number.NaN]],
  ])("are refused: %s", ([name, values]) => {
    for (const value of values) expect(() => new Sampler({ [name]: value })).toThrow(error(RangeError, name));
    for (const value of ["1", null, 1n]) expect(() => new Sampler({ [name]: value })).toThrow(error(TypeError, name));
    expect(() => new Sampler({ [name]: undefined })).not.toThrow();
  });

  it("are refused: a logit bias", () => {
    for (const bias of [{ a: 1 }, { "-1": 1 }, { 1: Number.NaN }, { 1: Number.POSITIVE_INFINITY }, new Map([[0.5, 1]])])
      expect(() => new Sampler({ logitBias: bias as never })).toThrow(error(RangeError, "logitBias"));
    for (const bias of [5, null, [1], { 1: "1" }, new Map([["1", 1]])])
      expect(() => new Sampler({ logitBias: bias as never })).toThrow(error(TypeError, "logitBias"));
  });

  it("are refused: the options, logits and tokens", () => {
    const sampler = new Sampler();
    expect(() => new Sampler(7 as never)).toThrow(error(TypeError, "options"));
    expect(() => sampler.sample([1, 2] as never)).toThrow(error(TypeError, "logits"));
    expect(() => sampler.sample(new Float32Array(0))).toThrow(error(RangeError, "logits.length"));
    expect(() => sampler.accept(-1)).toThrow(error(RangeError, "token"));
    expect(() => sampler.accept("1" as never)).toThrow(error(TypeError, "token"));
    expect(() => sampler.acceptPrompt(Int32Array.of(1, -1))).toThrow(error(RangeError, "token"));
    expect(() => sampler.retract(-1)).toThrow(error(RangeError, "count"));
  });
});
