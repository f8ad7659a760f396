/** Tokens that a sequence draws without its caller, alone and beside others. */
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";

import { loadModel, type Model, type ModelOptions, type Sequence, tinyModel } from "../lib/index.js";
import { type NativeBatch, native } from "../lib/native.js";
import { argmax } from "../lib/sampling/ranking.js";
import { burstSteps, chunkTokens } from "../lib/scheduler.js";

afterEach(() => vi.restoreAllMocks());

async function load(options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(tinyModel, { device: "cpu", onWarning: () => undefined, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

const prompt = (seed: number, count: number) =>
  Int32Array.from({ length: count }, (_, i) => 300 + ((i * 37 + seed * 11) % 100));

async function opened(model: Model, seed: number, count = 5): Promise<Sequence> {
  const sequence = model.sequence();
  await sequence.forward(prompt(seed, count), "none");
  return sequence;
}

/** The tokens that come after `token`, read one by one, and all that the sequence has read then. */
async function plain(model: Model, seed: number, token: number, count: number, opening = 5) {
  using sequence = await opened(model, seed, opening);
  const drawn: number[] = [];
  for (let next = token; drawn.length < count; drawn.push(next)) {
    next = argmax(await sequence.forward(Int32Array.of(next), "last"));
  }
  return { drawn, read: [...sequence.tokens] };
}

/** How many steps each decode takes, and for how many sequences; how many tokens each run reads of each. */
function watch() {
  const { programDecode, programRun } = native;
  const [decodes, runs]: [[sequences: number, steps: number][], number[][]] = [[], []];
  vi.spyOn(native, "programDecode").mockImplementation((...call) => {
    decodes.push([(call[2] as NativeBatch).lengths.length, call[5]]);
    return programDecode(...call);
  });
  vi.spyOn(native, "programRun").mockImplementation((...call) => {
    runs.push([...(call[2] as NativeBatch).lengths]);
    return programRun(...call);
  });
  return { decodes, runs };
}

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

describe("tokens drawn in a burst", () => {
  test.each([1, 2, 7, 15, 16])("are those of reading one by one: %i", async (most) => {
    const model = await load({ contextLength: 256 });
    const expected = await plain(model, 1, 301, most);
    const sequence = await opened(model, 1);
    const { decodes, runs } = watch();
    expect([...(await sequence.decode(301, most))]).toEqual(expected.drawn);
    expect([...sequence.tokens]).toEqual(expected.read);
    expect([decodes, runs]).toEqual(most === 1 ? [[], [[1]]] : [[[1, most]], []]);
  });

  test("are at most a burst's, and go on where it ended", async () => {
    const expected = await plain(await load({ contextLength: 256 }), 2, 301, 70);
    const model = await load({ contextLength: 256 });
    const sequence = await opened(model, 2);
    const drawn = [...(await sequence.decode(301, 70))];
    expect(drawn).toHaveLength(burstSteps);
    while (drawn.length < 70) drawn.push(...(await sequence.decode(drawn.at(-1)!, 70 - drawn.length)));
    expect(drawn).toEqual(expected.drawn);
    expect([...sequence.tokens]).toEqual(expected.read);
    const again = model.sequence();
    const { hits } = model.runtime.pool.statistics;
    await again.forward(sequence.tokens, "none");
    expect(model.runtime.pool.statistics.hits - hits).toBe(Math.floor((sequence.length - 1) / 16));
    const next = Int32Array.of(305);
    expect(await again.forward(next, "last")).toEqual(await sequence.forward(next, "last"));
  });

  test("come for several at once, as many as all want", async () => {
    const model = await load({ contextLength: 256 });
    const wants = [9, 40, 12];
    const expected = await Promise.all(wants.map((_, seed) => plain(model, seed, 301, 9, 5 + 7 * seed)));
    const sequences = await Promise.all(wants.map((_, seed) => opened(model, seed, 5 + 7 * seed)));
    const { decodes, runs } = watch();
    const drawn = await Promise.all(sequences.map((sequence, i) => sequence.decode(301, wants[i]!)));
    expect(drawn.map((tokens) => [...tokens])).toEqual(expected.map((one) => one.drawn));
    expect(sequences.map(({ tokens }) => [...tokens])).toEqual(expected.map(({ read }) => read));
    expect([decodes, runs]).toEqual([[[3, 9]], []]);
  });

  test("come one by one beside a prompt, which waits for none", async () => {
    const model = await load({ contextLength: 2048 });
    const expected = await plain(model, 1, 301, 4);
    const sequence = await opened(model, 1);
    const { decodes, runs } = watch();
    const reading = model.sequence().forward(prompt(3, 3 * chunkTokens), "last");
    const drawn: number[] = [];
    for (let i = 0; i < 4; i++) drawn.push(...(await sequence.decode(drawn.at(-1) ?? 301, 16)));
    await reading;
    expect(drawn.slice(0, 4)).toEqual(expected.drawn);
    expect(runs.slice(0, 4).every((lengths) => lengths.includes(1) && lengths.length === 2)).toBe(true);
    expect(decodes).toEqual([]);
    await sequence.decode(301, 16);
    expect(decodes).toEqual([[1, 16]]);
  });

  test("come one by one beside logits that are wanted", async () => {
    const model = await load({ contextLength: 256 });
    const expected = await plain(model, 1, 301, 1);
    const [drawing, reading] = [await opened(model, 1), await opened(model, 2)];
    const { decodes } = watch();
    const [drawn] = await Promise.all([drawing.decode(301, 16), reading.forward(Int32Array.of(301), "last")]);
    expect([...drawn]).toEqual(expected.drawn);
    expect(decodes).toEqual([]);
  });

  test("are as many as there are blocks for", async () => {
    const model = await load({ contextLength: 128, cacheSize: { tokens: 64 } });
    const expected = await plain(model, 1, 301, 20, 40);
    const sequence = await opened(model, 1, 40);
    const idle = await opened(model, 2, 14);
    const { decodes } = watch();
    const drawn: number[] = [];
    // 40 of 48 places are taken.
    drawn.push(...(await sequence.decode(301, 16)));
    expect(decodes).toEqual([[1, 8]]);
    await expect(sequence.decode(drawn.at(-1)!, 16, { wait: false })).rejects.toMatchObject({
      code: "ERR_CRIA_CACHE_FULL",
    });
    expect(sequence.length).toBe(48);
    idle.dispose();
    while (drawn.length < 20) drawn.push(...(await sequence.decode(drawn.at(-1)!, 20 - drawn.length)));
    expect(drawn).toEqual(expected.drawn);
    expect([...sequence.tokens]).toEqual(expected.read);
    sequence.dispose();
    expect(allFree(model)).toBe(true);
  });

  test("take no other's blocks but for the first, and come after what gave way is read again", async () => {
    const model = await load({ contextLength: 128, cacheSize: { tokens: 64 }, preempt: true });
    const expected = [await plain(model, 1, 301, 9, 40), await plain(model, 2, 301, 9, 14)];
    const [older, younger] = [await opened(model, 1, 40), await opened(model, 2, 14)];
    const drawn = [...(await older.decode(301, 16))];
    expect([drawn.length, model.runtime.scheduler.preemptions]).toEqual([8, 0]);
    drawn.push(...(await older.decode(drawn.at(-1)!, 1)));
    expect(model.runtime.scheduler.preemptions).toBe(1);
    expect(drawn).toEqual(expected[0]!.drawn);
    const again: number[] = [];
    while (again.length < 9) again.push(...(await younger.decode(again.at(-1) ?? 301, 9 - again.length)));
    expect(again).toEqual(expected[1]!.drawn);
    expect([...younger.tokens]).toEqual(expected[1]!.read);
    expect(model.runtime.scheduler.preemptions).toBe(2);
  });

  test("copy what is shared with a fork first", async () => {
    const model = await load({ contextLength: 256 });
    const expected = [await plain(model, 1, 301, 16, 21), await plain(model, 1, 302, 16, 21)];
    const first = await opened(model, 1, 21);
    const second = first.fork();
    const { decodes } = watch();
    const drawn = await Promise.all([first.decode(301, 16), second.decode(302, 16)]);
    expect(drawn.map((tokens) => [...tokens])).toEqual(expected.map((one) => one.drawn));
    expect(decodes).toEqual([[2, 16]]);
  });

  test("come one by one where another at work waits for room", async () => {
    const model = await load({ contextLength: 128, cacheSize: { tokens: 64 } });
    const [sequence, other] = [await opened(model, 1, 40), await opened(model, 2, 14)];
    const { decodes } = watch();
    const waiting = other.forward(prompt(3, 5), "none");
    expect(await sequence.decode(301, 16)).toHaveLength(1);
    sequence.dispose();
    await waiting;
    expect(decodes).toEqual([]);
  });

  test.each<[string, number[], number]>([
    ["equal ones", [1, 5, 5, 2], 1],
    ["zeros of either sign", [-0, 0], 0],
    ["what is no number", [Number.NaN, -3, Number.NaN, -2], 3],
    ["nothing but what is no number", [Number.NaN, Number.NaN], 0],
  ])("are in a step with others what the device would draw of %s", async (_, logits, token) => {
    const model = await load();
    const sequence = await opened(model, 1);
    const row = new Float32Array(model.config.vocab).fill(Number.NaN);
    row.set(logits);
    vi.spyOn(native, "programRun").mockResolvedValue(row);
    expect([...(await sequence.decode(301, 1))]).toEqual([token]);
  });

  test("are not hindered by who waits for room", async () => {
    const model = await load({ contextLength: 128, cacheSize: { tokens: 64 } });
    const expected = await plain(model, 1, 301, 16, 33);
    const sequence = await opened(model, 1, 33);
    const waiting = model.sequence().forward(prompt(2, 40), "last");
    const { decodes } = watch();
    const drawn = await sequence.decode(301, 16);
    sequence.dispose();
    expect(decodes).toEqual([[1, 16]]);
    expect([...drawn]).toEqual(expected.drawn);
    expect(await waiting).toHaveLength(model.config.vocab);
  });

  test("leave a sequence as it was where a signal stops them, and the others go on", async () => {
    const model = await load({ contextLength: 256, isa: "scalar", threads: 1 });
    const expected = await plain(model, 2, 301, 16);
    const [leaving, staying] = [await opened(model, 1), await opened(model, 2)];
    const before = leaving.tokens;
    const { decodes } = watch();
    const controller = new AbortController();
    const { signal } = controller;
    const left = leaving.decode(301, 16, { signal });
    const stayed = staying.decode(301, 16);
    while (decodes.length === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await expect(left).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(leaving.tokens).toEqual(before);
    expect([...(await stayed)]).toEqual(expected.drawn);
    expect([...(await leaving.decode(301, 1))]).toEqual((await plain(model, 1, 301, 1)).drawn);

    const alone = new AbortController();
    const stopped = leaving.decode(301, 16, { signal: alone.signal });
    while (decodes.length === 1) await new Promise((resolve) => setImmediate(resolve));
    alone.abort();
    await expect(stopped).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    leaving.dispose();
    staying.dispose();
    expect(allFree(model)).toBe(true);
  });

  test("are refused where they cannot be", async () => {
    const model = await load({ contextLength: 64 });
    const sequence = await opened(model, 1, 60);
    await expect(sequence.decode(-1, 1)).rejects.toThrow("token: must be an integer from 0 to 1023, not -1");
    await expect(sequence.decode(301, 0)).rejects.toThrow("most: must be an integer of at least 1, not 0");
    await expect(sequence.decode(301, 1, { onProgress: 1 } as never)).rejects.toThrow("is not an option of decode");
    await expect(sequence.decode(301, 5)).rejects.toMatchObject({
      code: "ERR_CRIA_CONTEXT",
      message: "most: must be at most 4, what is left of the context's 64, not 5",
    });
    const four = sequence.decode(301, 4);
    await expect(sequence.decode(301, 1)).rejects.toMatchObject({ code: "ERR_CRIA_STATE" });
    expect(await four).toHaveLength(4);
    expect(sequence.length).toBe(64);
    expect(burstSteps).toBeGreaterThan(4);
    sequence.dispose();
    await expect(sequence.decode(301, 1)).rejects.toMatchObject({ code: "ERR_CRIA_DISPOSED" });
  });
});
