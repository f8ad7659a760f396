import { createHash } from "node:crypto";
import { copyFile, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CriaFileError } from "../lib/errors.js";
import { blockBytes, blockTokens } from "../lib/kv-block.js";
import { loadModel, type Model } from "../lib/model.js";
import { type CacheShape, native } from "../lib/native.js";
import { Xoshiro128 } from "../lib/random.js";
import { loadSession, type SessionTarget, saveSession } from "../lib/session.js";
import { tinyModel } from "../lib/tiny.js";
import { expectSameBits } from "./support/compare.js";
import { type TemporaryFolder, temporaryFolder } from "./support/gguf-writer.js";
import { blocksToBytes, bytesToBlocks, cacheTypes, elementAt, headDims, setScale, sideOf } from "./support/kv.js";

/** Where the fields stand; the format is drawn in lib/session.ts. */
const at = {
  byteOrder: 8,
  version: 12,
  size: 16,
  count: 24,
  keyType: 28,
  layers: 36,
  fingerprint: 48,
  hash: 80,
  tokens: 112,
};

const shape: CacheShape = { keys: "f16", values: "f16", layers: 2, kvHeads: 2, headDim: 8 };
const size = blockBytes(shape);
const fingerprint = createHash("sha256").update("a model").digest();
const target: SessionTarget = { shape, fingerprint, vocab: 300, contextLength: 64 };
const iota = (count: number) => Int32Array.from({ length: count }, (_, i) => i);

/** The blocks of a cache in memory. */
class Blocks {
  readonly bytes: Buffer;
  readonly #size: number;
  /** The blocks of each call. */
  readonly calls: number[][] = [];

  constructor(count: number, { of = size, seed = 1 } = {}) {
    const random = Xoshiro128.fromSeed(seed);
    this.#size = of;
    this.bytes = Buffer.from(Uint32Array.from({ length: (count * of) / 4 }, () => random.next()).buffer);
  }

  block(block: number): Buffer {
    return this.bytes.subarray(block * this.#size, (block + 1) * this.#size);
  }

  read = async (blocks: Int32Array, into: Uint8Array): Promise<void> => {
    expect(into.length).toBe(blocks.length * this.#size);
    this.calls.push([...blocks]);
    blocks.forEach((block, i) => {
      into.set(this.block(block), i * this.#size);
    });
  };

  write = async (blocks: Int32Array, bytes: Uint8Array): Promise<void> => {
    expect(bytes.length).toBe(blocks.length * this.#size);
    this.calls.push([...blocks]);
    blocks.forEach((block, i) => {
      this.block(block).set(bytes.subarray(i * this.#size, (i + 1) * this.#size));
    });
  };
}

/** A block with the places from `first` on, if there are such, zero. */
function cleared(shape: CacheShape, block: Uint8Array, first: number): Uint8Array {
  const layer = bytesToBlocks(shape, block);
  for (const side of [sideOf(layer, "k"), sideOf(layer, "v")]) {
    for (let head = 0; head < shape.layers * shape.kvHeads; head++) {
      for (let place = first; place < blockTokens; place++) {
        for (let d = 0; d < shape.headDim; d++) {
          side.data[elementAt(side, { head, place, d })] = 0;
          if (side.type === "q8_0") setScale(side, { head, place, d }, 0);
        }
      }
    }
  }
  return blocksToBytes(layer);
}

const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 37) % 300);

/** A session of 40 tokens in three blocks. */
async function saved(folder: TemporaryFolder, name = "session"): Promise<{ path: string; blocks: Blocks }> {
  const path = join(folder.path, name);
  const blocks = new Blocks(8);
  await saveSession(path, { shape, fingerprint, tokens, blocks: [5, 2, 7], read: blocks.read });
  return { path, blocks };
}

/** Bytes of a session with some changed, and its checksums made good, so that what is behind them is looked at. */
function resealed(bytes: Buffer, change: (bytes: Buffer) => Buffer | undefined): Buffer {
  const copy = Buffer.from(bytes);
  const changed = change(copy) ?? copy;
  const end = at.tokens + 4 * Math.min(changed.readUInt32LE(at.count), 1000);
  const sha = (...parts: Buffer[]) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
  sha(changed.subarray(0, at.hash), changed.subarray(at.tokens, end)).copy(changed, at.hash);
  sha(changed.subarray(0, -32)).copy(changed, changed.length - 32);
  return changed;
}

/** Loads and restores to blocks 1, 4 and 3; whatever happens, no other block may change. */
async function restored(
  path: string,
  into = new Blocks(6, { seed: 2 }),
): Promise<{ tokens: Int32Array; into: Blocks }> {
  const before = Buffer.from(into.bytes);
  try {
    const { tokens, restore } = await loadSession(path, target);
    await restore([1, 4, 3], into.write);
    return { tokens, into };
  } finally {
    for (const block of [0, 2, 5]) {
      expect(into.block(block).equals(before.subarray(block * size, (block + 1) * size))).toBe(true);
    }
  }
}

const problem = async (path: string): Promise<CriaFileError> => {
  const error = await restored(path).catch((error) => error);
  expect(error).toBeInstanceOf(CriaFileError);
  expect(error.message.startsWith(`${path}: `)).toBe(true);
  return error;
};

describe("a saved session", () => {
  test("comes back to other blocks, with its tokens", async () => {
    await using folder = await temporaryFolder();
    const { path, blocks } = await saved(folder);
    expect(await readdir(folder.path)).toEqual(["session"]);
    const { tokens: back, into } = await restored(path);
    expectSameBits(back, tokens);
    expectSameBits(into.block(1), blocks.block(5));
    expectSameBits(into.block(4), blocks.block(2));
    expectSameBits(into.block(3), cleared(shape, blocks.block(7), 40 % blockTokens));
  });

  test("has nothing of what the last block holds behind the last token, and all before it, of any types", async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "session");
    await fc.assert(
      fc.asyncProperty(cacheTypes, headDims, fc.integer({ min: 1, max: 33 }), async (types, headDim, count) => {
        const own: CacheShape = { ...types, layers: 2, kvHeads: 3, headDim };
        const of = blockBytes(own);
        const [from, to] = [new Blocks(3, { of }), new Blocks(3, { of, seed: 2 })];
        const session = { shape: own, fingerprint, tokens: tokens.slice(0, count), blocks: [2, 0, 1], read: from.read };
        await saveSession(path, session);
        const { restore } = await loadSession(path, { ...target, shape: own });
        await restore([0, 1, 2], to.write);
        const used = [2, 0, 1].slice(0, Math.ceil(count / blockTokens));
        for (const [i, block] of used.entries()) {
          expectSameBits(to.block(i), cleared(own, from.block(block), count - i * blockTokens));
        }
      }),
      { numRuns: 50 },
    );
  });

  test.each([0, 1, 16, 17])("of %i tokens has as many blocks as they need", async (count) => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "session");
    const [from, to] = [new Blocks(4), new Blocks(4, { seed: 2 })];
    const session = { shape, fingerprint, tokens: tokens.slice(0, count), blocks: [0, 1, 2], read: from.read };
    const { bytes } = await saveSession(path, session);
    expect((await stat(path)).size).toBe(bytes);
    const { tokens: back, restore } = await loadSession(path, target);
    expectSameBits(back, session.tokens);
    await restore([3, 2, 1], to.write);
    expect(to.calls.flat()).toEqual([3, 2, 1].slice(0, Math.ceil(count / blockTokens)));
  });

  test("replaces one of that name", async () => {
    await using folder = await temporaryFolder();
    const { path } = await saved(folder);
    await writeFile(path, "something else");
    await saved(folder);
    await restored(path);
  });

  test("is read and written in pieces of 4 MiB", async () => {
    await using folder = await temporaryFolder();
    const large: CacheShape = { keys: "f32", values: "f32", layers: 4, kvHeads: 8, headDim: 64 };
    const of = blockBytes(large);
    const [count, each] = [20, (4 << 20) / of];
    const [from, to] = [new Blocks(count, { of }), new Blocks(count, { of, seed: 2 })];
    const path = join(folder.path, "session");
    const many = new Int32Array(count * blockTokens);
    await saveSession(path, { shape: large, fingerprint, tokens: many, blocks: iota(count), read: from.read });
    const { restore } = await loadSession(path, { ...target, shape: large, contextLength: 1000 });
    await restore(iota(count), to.write);
    expect(to.bytes.equals(from.bytes)).toBe(true);
    for (const { calls } of [from, to]) expect(calls.map(({ length }) => length)).toEqual([each, count - each]);
  });

  test.each(["f16", { keys: "q8_0", values: "f32" }] as const)(
    "continues a model's text with the bits that it would have had, in %j",
    async (cache) => {
      await using folder = await temporaryFolder();
      using model = await loadModel(tinyModel, { contextLength: 128, cache });
      const { pool } = model.runtime;
      const prompt = Int32Array.from({ length: 21 }, (_, i) => 5 + 7 * i);
      await forward(model, prompt, 0, [6, 1]);
      const expected = await forward(model, Int32Array.of(42), prompt.length, [6, 1]);

      const path = join(folder.path, "session");
      const own = { shape: pool.shape, fingerprint };
      const read = (blocks: Int32Array, into: Uint8Array) => native.cacheRead(pool.cache, blocks, into);
      await saveSession(path, { ...own, tokens: prompt, blocks: [6, 1], read });
      const session = await loadSession(path, { ...own, vocab: model.config.vocab, contextLength: 128 });
      await session.restore([3, 5], (blocks, bytes) => native.cacheWrite(pool.cache, blocks, bytes));
      expectSameBits(await forward(model, Int32Array.of(42), session.tokens.length, [3, 5]), expected);
    },
  );
});

/** The logits after tokens that follow `past` others in the blocks. */
function forward({ runtime }: Model, tokens: Int32Array, past: number, blocks: number[]): Promise<Float32Array> {
  return runtime.program.run(runtime.pool.cache, {
    tokens,
    positions: iota(tokens.length).map((i) => past + i),
    lengths: Int32Array.of(tokens.length),
    pasts: Int32Array.of(past),
    blockCounts: Int32Array.of(blocks.length),
    blocks: Int32Array.from(blocks),
    outputs: Int32Array.of(tokens.length - 1),
  });
}

describe("a session is refused", () => {
  test("with any byte changed", async () => {
    await using folder = await temporaryFolder();
    const { path } = await saved(folder);
    const sound = await readFile(path);
    const flipped = async (place: number, mask: number) => {
      const bytes = Buffer.from(sound);
      bytes[place]! ^= mask;
      await writeFile(path, bytes);
      await problem(path);
    };
    for (let place = 0; place < at.tokens; place++) await flipped(place, 1 << (place % 8));
    const places = fc.record({ place: fc.nat(sound.length - 1), mask: fc.integer({ min: 1, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(places, ({ place, mask }) => flipped(place, mask)),
      { numRuns: 200 },
    );
  });

  test("cut anywhere, or with more behind it", async () => {
    await using folder = await temporaryFolder();
    const { path } = await saved(folder);
    const sound = await readFile(path);
    const copy = join(folder.path, "copy");
    const cut = async (length: number) => {
      await copyFile(path, copy);
      await truncate(copy, length);
      return (await problem(copy)).message.slice(copy.length + 2);
    };
    expect(await cut(0)).toBe("must not be empty");
    expect(await cut(5)).toBe('must begin with "CRIASESS", not "CRIAS"');
    expect(await cut(100)).toBe("must have a header of 112 bytes, not end at 100");
    const whole = `must be of ${sound.length} bytes, as its header says, not `;
    for (const length of [112, 200, sound.length - 1, sound.length + 1, sound.length + size]) {
      expect(await cut(length)).toBe(`${whole}${length}`);
    }
    await fc.assert(
      fc.asyncProperty(fc.nat(sound.length - 1), async (length) => void (await cut(length))),
      {
        numRuns: 100,
      },
    );
  });

  test("that is another kind of file, absent, or none", async () => {
    await using folder = await temporaryFolder();
    expect((await problem(tinyModel)).message).toBe(
      `${tinyModel}: must begin with "CRIASESS", not ${JSON.stringify((await readFile(tinyModel)).toString("latin1", 0, 8))}`,
    );
    expect((await problem(join(folder.path, "absent"))).message).toMatch(/cannot be read: no such file/);
    expect((await problem(folder.path)).message).toBe(`${folder.path}: must be a regular file`);
    await expect(loadSession(1 as never, target)).rejects.toMatchObject({
      name: "TypeError",
      message: "path: must be a string, not 1",
    });
  });

  test("of another version or byte order, model, shape or vocabulary, or too long, each by its name", async () => {
    await using folder = await temporaryFolder();
    const { path } = await saved(folder);
    const sound = await readFile(path);
    const refused = async (change: (bytes: Buffer) => Buffer | undefined, message: string, code = "ERR_CRIA_FILE") => {
      await writeFile(path, resealed(sound, change));
      expect(await problem(path)).toMatchObject({ message: `${path}: ${message}`, code });
    };
    const u32 = (place: number, value: number) => (bytes: Buffer) => {
      bytes.writeUInt32LE(value, place);
      return undefined;
    };
    const version = "is of version 2 of the session format; this version of cria reads 1";
    await refused(u32(at.version, 2), version, "ERR_CRIA_UNSUPPORTED");
    const order = "must be a little-endian session, not of another byte order";
    await refused(u32(at.byteOrder, 0x04030201), order, "ERR_CRIA_UNSUPPORTED");
    const holds = (keys: string, layers: number) =>
      `${keys} keys and f16 values of ${layers} layers of 2 heads of 8 dimensions`;
    await refused(u32(at.layers, 3), `cache: must hold ${holds("f16", 2)}, not ${holds("f16", 3)}`);
    await refused(u32(at.keyType, 0), `cache: must hold ${holds("f16", 2)}, not ${holds("f32", 2)}`);
    await refused(u32(at.keyType, 77), `cache: must hold ${holds("f16", 2)}, not ${holds("type 77", 2)}`);
    await refused(
      u32(at.fingerprint, 0),
      `model: must be the one of fingerprint ${fingerprint.toString("hex", 0, 8)}…, not 00000000${fingerprint.toString("hex", 4, 8)}…`,
    );
    await refused(u32(at.tokens + 12, 300), "token 3: must be from 0 to 299, not 300");
    await refused(u32(at.tokens + 12, 0xffffffff), "token 3: must be from 0 to 299, not -1");
    await refused(u32(at.count, 65), "must have at most the context's 64 tokens, not 65");
    await refused(u32(at.count, 0xffffffff), "must have at most the context's 64 tokens, not 4294967295");
    // Counts that do not fit the size, whose checksums are right all the same.
    await refused(u32(at.count, 41), `must be of ${sound.length + 4} bytes for its 41 tokens, not ${sound.length}`);
    await refused(
      (bytes) => {
        const longer = Buffer.concat([bytes, Buffer.alloc(size)]);
        longer.writeBigUInt64LE(BigInt(longer.length), at.size);
        return longer;
      },
      `must be of ${sound.length} bytes for its 40 tokens, not ${sound.length + size}`,
    );
    await refused((bytes) => {
      bytes.writeBigUInt64LE(2n ** 64n - 1n, at.size);
      return undefined;
    }, `must be of 18446744073709551615 bytes, as its header says, not ${sound.length}`);
  });

  test("that became another between its tokens and its blocks", async () => {
    await using folder = await temporaryFolder();
    const { path } = await saved(folder);
    const sound = await readFile(path);
    const restoring = async (change: () => Promise<void>) => {
      await writeFile(path, sound);
      const { restore } = await loadSession(path, target);
      await change();
      return restore([0, 1, 2], new Blocks(3).write).catch((error) => error);
    };
    const other = resealed(sound, (bytes) => {
      bytes[at.tokens]! ^= 1;
      return undefined;
    });
    const message = `${path}: must not change between its tokens and its blocks`;
    expect(await restoring(() => writeFile(path, other))).toMatchObject({ name: "CriaFileError", message });
    expect(await restoring(() => truncate(path, 1000))).toMatchObject({ name: "CriaFileError", message });
    // The tokens are the same, so only the end can tell.
    const damaged = Buffer.from(sound);
    damaged[1000]! ^= 1;
    expect(await restoring(() => writeFile(path, damaged))).toMatchObject({
      message: `${path}: its blocks must have the checksum that it ends with; it is damaged`,
    });
  });
});

describe("saving and restoring refuse", () => {
  test("blocks that are none, too few, or the same", async () => {
    await using folder = await temporaryFolder();
    const { path, blocks } = await saved(folder);
    const { restore } = await loadSession(path, target);
    const problems: [number[], string][] = [
      [[1, 2], "blocks.length: must be at least 3 for 40 tokens, not 2"],
      [[1, 2, 1], "blocks[2]: must be a block that was not named before, not 1"],
      [[1, 2.5, 3], "blocks[1]: must be an integer from 0 to 2147483647, not 2.5"],
      [[-1, 2, 3], "blocks[0]: must be an integer from 0 to 2147483647, not -1"],
    ];
    for (const [table, message] of problems) {
      const error = { name: "RangeError", code: "ERR_CRIA_ARGUMENT", message };
      await expect(restore(table, blocks.write)).rejects.toMatchObject(error);
      const session = { shape, fingerprint, tokens, blocks: table, read: blocks.read };
      await expect(saveSession(join(folder.path, "new"), session)).rejects.toMatchObject(error);
    }
    expect(await readdir(folder.path)).toEqual(["session"]);
  });

  test("what their callback refuses, and where nothing can be written; nothing is left", async () => {
    await using folder = await temporaryFolder();
    const { path, blocks } = await saved(folder);
    const refusal = new Error("no");
    const refuse = () => Promise.reject(refusal);
    const session = { shape, fingerprint, tokens, blocks: [0, 1, 2], read: refuse };
    await expect(saveSession(join(folder.path, "new"), session)).rejects.toBe(refusal);
    const { restore } = await loadSession(path, target);
    await expect(restore([0, 1, 2], refuse)).rejects.toBe(refusal);
    const nowhere = join(folder.path, "absent", "session");
    await expect(saveSession(nowhere, { ...session, read: blocks.read })).rejects.toMatchObject({
      name: "CriaFileError",
      message: `${nowhere}: cannot be written: no such file or directory`,
    });
    expect(await readdir(folder.path)).toEqual(["session"]);
  });
});
