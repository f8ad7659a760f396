import { createHash } from "node:crypto";
import { truncateSync } from "node:fs";
import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../../lib/device.js";
import { CriaError, CriaFileError } from "../../lib/errors.js";
import { logitsInChunks } from "../../lib/logits.js";
import { loadModel, type Model, type ModelOptions } from "../../lib/model.js";
import { native } from "../../lib/native.js";
import { packModel } from "../../lib/pack.js";
import { tinyModel } from "../../lib/tiny.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { type PackedModel, readPacked } from "../../lib/weights/packed.js";
import { type WeightType, weightBytes, weightFormats } from "../../lib/weights/source.js";
import { expectSameBits } from "../support/compare.js";
import { encodeGguf, llamaFile, splitGguf, temporaryFolder } from "../support/gguf-writer.js";
import { encodeV1, type Numbers, tokenizerBin } from "../support/llama2c-writer.js";
import { variedWeights } from "../support/logits.js";

/** Where the fields of the header stand; the format is drawn in lib/weights/packed.ts. */
const at = {
  byteOrder: 8,
  version: 12,
  layout: 16,
  count: 20,
  size: 24,
  keysEnd: 32,
  indexEnd: 40,
  hash: 48,
  keys: 80,
};

/** Finite weights of any type: bytes of which every second is small, as the exponents and the scales then are. */
function weightData(name: string, type: WeightType, rows: number, cols: number): Uint8Array {
  const bytes = createHash("shake256", { outputLength: weightBytes(type, rows, cols) })
    .update(name)
    .digest();
  const { block, blockBytes: width } = weightFormats[type];
  const top = type === "f32" || type === "bf16" ? 0x3d : 0x24;
  const place = block > 1 ? 1 : width - 1;
  for (let i = place; i < bytes.length; i += width) bytes[i] = top;
  return bytes;
}

const tokens = Int32Array.of(1, 260, 270, 280, 299, 3);

async function logitsOf(path: string, options: ModelOptions = {}): Promise<Float32Array> {
  using model = await loadModel(path, options);
  return await logitsBy(model);
}

async function logitsBy(model: Model): Promise<Float32Array> {
  const chunks: number[] = [];
  for await (const chunk of logitsInChunks(model.sequence(), tokens, { signal: new AbortController().signal }))
    chunks.push(...chunk);
  return Float32Array.from(chunks);
}

const packedTiny = async (folder: { path: string }): Promise<string> => {
  const path = join(folder.path, "tiny.cria");
  await packModel(tinyModel, path);
  return path;
};

/** A file with bytes changed, and its checksum made good, so that what is behind it is looked at. */
function resealed(bytes: Buffer, change: (bytes: Buffer) => void): Buffer {
  const changed = Buffer.from(bytes);
  change(changed);
  const end = Number(changed.readBigUInt64LE(at.indexEnd));
  const hash = createHash("sha256")
    .update(changed.subarray(0, at.hash))
    .update(changed.subarray(at.keys, end))
    .digest();
  hash.copy(changed, at.hash);
  return changed;
}

/** Where the numbers of a tensor stand in the index, behind its last name. */
function entryOf(bytes: Buffer, name: string): { rows: number; cols: number; offset: number; bytes: number } {
  const keysEnd = Number(bytes.readBigUInt64LE(at.keysEnd));
  const rows = bytes.indexOf(name, keysEnd) + name.length;
  return { rows, cols: rows + 8, offset: rows + 16, bytes: rows + 24 };
}

describe("a packed model", () => {
  test.for(["f32", "f16", "bf16", "q8_0", "q4_0"] as const)(
    "of %s: the logits of its GGUF, bit for bit",
    async (type) => {
      await using folder = await temporaryFolder();
      const gguf = await folder.write("model.gguf", llamaFile({ type, dim: 96, heads: 4, ffn: 160, data: weightData }));
      const packed = join(folder.path, "model.cria");
      const { bytes } = await packModel(gguf, packed);
      expect((await stat(packed)).size).toBe(bytes);
      expect(await readdir(folder.path)).toHaveLength(2); // and no partial one
      const logits = await logitsOf(packed);
      expect(logits.every(Number.isFinite)).toBe(true);
      expect(new Set(logits).size).toBeGreaterThan(100);
      expectSameBits(logits, await logitsOf(gguf));
    },
  );

  test("of mixed types and vectors in f16, without an output matrix: the same", async () => {
    await using folder = await temporaryFolder();
    const file = llamaFile({ type: "q8_0", tied: true, data: weightData });
    for (const tensor of file.tensors) {
      const type = tensor.shape.length === 1 ? "f16" : /attn_k|ffn_up/.test(tensor.name) ? "f32" : "q8_0";
      const [cols, rows = 1] = tensor.shape.map(Number) as [number, number?];
      Object.assign(tensor, { type, data: weightData(tensor.name, type, rows, cols) });
    }
    const gguf = await folder.write("model.gguf", file);
    const packed = join(folder.path, "model.cria");
    await packModel(gguf, packed);
    expectSameBits(await logitsOf(packed), await logitsOf(gguf));
    const names = (await readPacked(packed)).packed.map(({ names }) => names.length);
    expect(new Set(names)).toEqual(new Set([1])); // nothing could be stacked
  });

  test("of the parts of a split one: the same file", async () => {
    await using folder = await temporaryFolder();
    const whole = llamaFile({ data: weightData });
    for (const [name, part] of splitGguf(whole, "split", 4, 9)) await folder.write(name, part);
    const [one, two] = [join(folder.path, "one"), join(folder.path, "two")];
    await packModel(await folder.write("whole.gguf", whole), one);
    await packModel(join(folder.path, "split-00002-of-00003.gguf"), two);
    expectSameBits(await logitsOf(two), await logitsOf(one));
  });

  test("has the configuration, the vocabulary and the shapes of its GGUF", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const [packed, gguf] = [await readModel(path), await readLlama(tinyModel)];
    expect(packed).toMatchObject({ path, name: gguf.name, config: gguf.config, vocabulary: gguf.vocabulary });
    expect(packed.format).toBe(`packed v1, layout ${native.matrixLayout("cpu")}`);
    const shapes = ({ tensors }: typeof packed) =>
      [...tensors.values()].map(({ name, type, rows, cols }) => ({ name, type, rows, cols }));
    expect(shapes(packed)).toEqual(expect.arrayContaining(shapes(gguf)));
    expect(packed.tensors.size).toBe(gguf.tensors.size);
    expect(await readVocabulary(path)).toEqual(gguf.vocabulary);
  });

  test("stacks matrices, and begins each tensor on a page", async () => {
    await using folder = await temporaryFolder();
    const { packed } = await readPacked(await packedTiny(folder));
    expect(packed.find(({ names }) => names[0] === "blk.0.attn_q.weight")).toMatchObject({
      kind: "matrix",
      names: ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"],
    });
    expect(packed.every(({ offset }) => offset % 4096 === 0)).toBe(true);
  });

  test("tells its progress, and stops at a signal, leaving nothing", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out");
    const seen: [number, number][] = [];
    const controller = new AbortController();
    const onProgress = (done: number, total: number) => {
      seen.push([done, total]);
      if (seen.length === 3) controller.abort();
    };
    const aborted = packModel(tinyModel, out, { onProgress, signal: controller.signal });
    await expect(aborted).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(seen).toHaveLength(3);
    expect(seen[2]![0]).toBeLessThan(seen[2]![1]);
    expect(await readdir(folder.path)).toEqual([]);

    const { bytes } = await packModel(tinyModel, out, { onProgress: (...now) => seen.push(now) });
    expect(seen.at(-1)).toEqual([bytes, bytes]);
  });

  test("is loaded with progress up to the end, and stops at a signal", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const seen: [number, number][] = [];
    using _ = await loadModel(path, { onProgress: (...now) => seen.push(now) });
    expect(seen).toHaveLength(38);
    expect(seen.at(-1)![0]).toBe(seen.at(-1)![1]);
    const controller = new AbortController();
    const aborted = loadModel(path, { onProgress: () => controller.abort(), signal: controller.signal });
    await expect(aborted).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
  });
});

describe("without mmap a packed model", () => {
  test("gives the same, and goes on when its file is cut", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const mapped = await logitsOf(path);
    using model = await loadModel(path, { mmap: false });
    truncateSync(path, 4096);
    expectSameBits(await logitsBy(model), mapped);
  });

  test("that was cut while it is loaded is a typed error, and leaves nothing", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const cut = (loaded: number) => {
      if (loaded > 0) truncateSync(path, 8192);
    };
    await expect(loadModel(path, { mmap: false, onProgress: cut })).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/: ends at byte \d+, inside a tensor$/),
    });
  });

  test("is asked for by a flag", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    await expect(loadModel(path, { mmap: 1 as never })).rejects.toThrow("mmap: must be a boolean, not 1");
    await expect(loadModel(tinyModel, { mmap: null as never })).rejects.toThrow(TypeError);
  });
});

describe("packing with options", () => {
  test("another tokenizer takes the place of a GGUF file's own, and of one that a llama2.c model has not", async () => {
    await using folder = await temporaryFolder();
    const tokenizer = await folder.write("tok.bin", tokenizerBin(300));
    const numbers: Numbers = [64, 96, 2, 4, 4, 300, 128];
    const bytes = encodeV1(llamaFile({ kvHeads: 4, type: "f32", data: variedWeights }), numbers);
    await mkdir(join(folder.path, "alone"));
    const llama2c = await folder.write("alone/model.bin", bytes);
    const { pieces, types } = await readVocabulary(tokenizer);
    for (const model of [llama2c, await folder.write("model.gguf", encodeGguf(llamaFile()))]) {
      const out = join(folder.path, "packed");
      await packModel(model, out, { tokenizer });
      expect((await readModel(out)).vocabulary).toMatchObject({ pieces, types, bos: 1, eos: 2 });
      const logits = await logitsOf(out);
      expectSameBits(logits, await logitsOf(model, { tokenizer }));
    }
  });

  test("quantised while it is packed, it is what it would be quantised while it is loaded", async () => {
    await using folder = await temporaryFolder();
    const model = await folder.write("f32.gguf", encodeGguf(llamaFile({ type: "f32", data: variedWeights })));
    const out = join(folder.path, "packed");
    await packModel(model, out, { quantize: "q4_0" });
    expect((await readModel(out)).tensors.get("blk.0.attn_q.weight")).toMatchObject({ type: "q4_0" });
    const logits = await logitsOf(model, { quantize: "q4_0" });
    expectSameBits(await logitsOf(out), logits);
  });

  test.for<[options: object, message: string]>([
    [{ mmap: false }, "options.mmap: is not an option of packModel"],
    [{ tokenizer: 1 }, "tokenizer: must be a string, not 1"],
    [{ onProgress: 1 }, "onProgress: must be a function, not 1"],
    [{ signal: 1 }, "signal: must be an AbortSignal, not 1"],
  ])("%j is refused before anything is written", async ([options, message]) => {
    await using folder = await temporaryFolder();
    await expect(packModel(tinyModel, join(folder.path, "out"), options)).rejects.toMatchObject({
      name: "TypeError",
      message,
    });
    expect(await readdir(folder.path)).toEqual([]);
  });
});

describe("packing refuses", () => {
  test("to replace the model that it reads, by whatever name", async () => {
    await using folder = await temporaryFolder();
    const gguf = await folder.write("model.gguf", llamaFile());
    const link = join(folder.path, "link");
    await symlink(gguf, link);
    for (const out of [gguf, link, join(folder.path, ".", "model.gguf")]) {
      await expect(packModel(gguf, out)).rejects.toMatchObject({
        name: "CriaFileError",
        message: `${out}: must not be a file of the model itself, ${gguf}`,
      });
    }
  });

  test("what is packed, what is no file, and where nothing can be written", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const refused = (from: string, to: string) => expect(packModel(from, to)).rejects;
    await refused(path, join(folder.path, "again")).toMatchObject({
      message: `${path}: must be a model, not packed already`,
    });
    await refused(tinyModel, folder.path).toMatchObject({
      message: `${folder.path}: must be a regular file, or none yet, to be written`,
    });
    await refused(tinyModel, "/dev/null").toMatchObject({ code: "ERR_CRIA_FILE" });
    await refused(tinyModel, "/absent/model").toMatchObject({
      name: "CriaFileError",
      message: "/absent/model: cannot be written: no such file or directory",
    });
    await refused("/absent.gguf", path).toMatchObject({ code: "ERR_CRIA_FILE" });
    expect((await readPacked(path)).name).toBe("cria-tiny"); // the file that was to be replaced is whole
  });
});

describe("a packed file is refused", () => {
  const wrong = (change: (bytes: Buffer) => void, error: object) => async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    await writeFile(path, resealed(await readFile(path), change));
    await expect(loadModel(path)).rejects.toMatchObject({ name: "CriaFileError", file: path, ...error });
  };
  const says = (message: string) => ({ message: expect.stringContaining(message) });
  const ours = native.matrixLayout("cpu");
  const down = "blk.0.ffn_down.weight";
  const set = (field: "rows" | "cols" | "offset" | "bytes", value: number | bigint) => (bytes: Buffer) =>
    void bytes.writeBigUInt64LE(BigInt(value), entryOf(bytes, down)[field]);

  test(
    "of another layout",
    wrong((bytes) => bytes.writeUInt32LE(ours + 1, at.layout), {
      code: "ERR_CRIA_UNSUPPORTED",
      ...says(
        `was packed for layout ${ours + 1}; this version of cria has layout ${ours}: pack it again from the GGUF`,
      ),
    }),
  );
  test(
    "of another version",
    wrong((bytes) => bytes.writeUInt32LE(2, at.version), {
      code: "ERR_CRIA_UNSUPPORTED",
      ...says("is of version 2 of the packed format; this version of cria reads 1: pack it again from the GGUF"),
    }),
  );
  test(
    "of another byte order",
    wrong((bytes) => bytes.writeUInt32BE(0x01020304, at.byteOrder), {
      code: "ERR_CRIA_UNSUPPORTED",
      ...says("must be a little-endian packed file"),
    }),
  );
  test(
    "of another magic",
    wrong((bytes) => bytes.write("X"), says('must begin with "GGUF", not "XRIA"')),
  );
  test(
    "with a tensor off its page",
    wrong(set("offset", 4096 * 9 + 64), says(`${down}: its data must begin at a multiple`)),
  );
  test("with tensors that overlap", wrong(set("offset", 4096 * 9), says("its data must begin after those of")));
  test(
    "with a tensor in the header",
    wrong(set("offset", 0), says(`${down}: its data must begin after those of the index`)),
  );
  test(
    "with a tensor behind the end",
    wrong(set("offset", 2 ** 40), says(`${down}: its data must end within the file's`)),
  );
  test(
    "with a tensor beyond numbers",
    wrong(set("offset", 2n ** 64n - 4096n), says(`${down}: its offset must be below 2^53`)),
  );
  test("with a size that wraps", wrong(set("bytes", 2 ** 53 - 1), says(`${down}: its data must end within`)));
  test(
    "with a size that does not fit the shape",
    wrong(set("bytes", 64), says(`must be the matrix ${down} of 96 x 256`)),
  );
  test("with other rows", wrong(set("rows", 95), says(`must be the matrix ${down} of 96 x 256`)));
  test("with other columns", wrong(set("cols", 2 ** 40), says(`must be the matrix ${down} of 96 x 256`)));
  test.each([
    ["blk.0.attn_output.weight", 12, "rows of 96, not q4_K"],
    ["blk.0.attn_norm.weight", 10, "vectors, not q2_K"],
  ])("with %s of a type whose blocks do not make it up", async (name, id, rest) => {
    const typeAt = (bytes: Buffer) => entryOf(bytes, name).rows - name.length - 16;
    const change = (bytes: Buffer) => void bytes.writeUInt32LE(id, typeAt(bytes));
    await wrong(change, says(`${name}: must be of a type for ${rest}`))();
  });
  test(
    "with keys that end elsewhere",
    wrong((bytes) => bytes.writeUInt8(bytes[at.keysEnd]! ^ 1, at.keysEnd), says("its keys must end at byte")),
  );
  test(
    "with a tensor twice",
    wrong(
      (bytes) => bytes.write("blk.1", entryOf(bytes, down).rows - down.length),
      says("blk.1.ffn_down.weight: stands twice"),
    ),
  );
  test(
    "with a tensor that is none",
    wrong(
      (bytes) => bytes.write("blk.9", entryOf(bytes, down).rows - down.length),
      says(`${down}: must be among the tensors, but is missing`),
    ),
  );
  test(
    "with a tensor missing",
    wrong((bytes) => bytes.writeUInt32LE(5, at.count), says("its index must end at byte")),
  );

  test("where it was cut, or is longer", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const { size } = await stat(path);
    for (const wrongSize of [size + 1, size - 1, 5000, at.keys, at.count, 9]) {
      truncateSync(path, wrongSize);
      await expect(loadModel(path), `${wrongSize} bytes`).rejects.toMatchObject({ name: "CriaFileError", file: path });
    }
    await expect(readPacked(path)).rejects.toMatchObject({ message: expect.stringContaining("must end within") });
  });

  test("where a byte of its header or its index is another", async () => {
    await using folder = await temporaryFolder();
    const path = await packedTiny(folder);
    const bytes = await readFile(path);
    const end = Number(bytes.readBigUInt64LE(at.indexEnd));
    for (let i = 0; i < end; i += 97) {
      const damaged = Buffer.from(bytes);
      damaged[i]! ^= 0x10;
      await writeFile(path, damaged);
      await expect(readModel(path), `byte ${i}`).rejects.toBeInstanceOf(CriaFileError);
    }
  });

  test("after the mapping of a tensor that the file ends in, not with a signal", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("short", Buffer.alloc(8192));
    const file = native.fileOpen(path);
    const { handle } = new Device();
    const map = (rows: number, offset: number) => native.matrixMap(handle, "f32", rows, 64, file, offset);
    const whole = await map(32, 0);
    expect(native.tensorBytes(whole)).toBe(8192);
    expect(() => native.tensorPack(whole, 0, 0, new Uint8Array())).toThrow("tensor: must not be mapped from a file");
    await expect(map(33, 0)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: must hold 12288 bytes at 0, but ends at 8192`,
    });
    await expect(map(32, 64)).rejects.toMatchObject({ code: "ERR_CRIA_FILE" });
    await expect(map(16, 32)).rejects.toMatchObject({ message: "offset: must be a multiple of 64, not 32" });
    const read = (rows: number, offset: number) => native.matrixRead(handle, "f32", rows, 64, file, offset);
    const copy = await read(16, 32);
    expect(() => native.tensorPack(copy, 0, 0, new Uint8Array())).not.toThrow();
    await expect(read(32, 1)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: must hold 8192 bytes at 1, but ends at 8192`,
    });
    truncateSync(path, 100);
    await expect(read(16, 0)).rejects.toMatchObject({ message: `${path}: ends at byte 100, inside a tensor` });
    await expect(map(32, 0)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: cannot be read, or was cut while it was mapped`,
    });
    native.free(file);
  });
});

/** A change of the header's bytes; `at` is a share of it. */
const mutation = fc.record({
  at: fc.nat(2 ** 20 - 1).map((n) => n / 2 ** 20),
  width: fc.constantFrom(1, 4, 8),
  value: fc.oneof(
    fc.constantFrom(0n, 1n, 2n, 17n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
});

test("mutants whose checksum is right are read soundly or refused, 3000 of them", async () => {
  await using folder = await temporaryFolder();
  const gguf = await folder.write("m.gguf", llamaFile({ dim: 32, heads: 2, kvHeads: 1, ffn: 32, vocab: 8, layers: 1 }));
  const path = join(folder.path, "m.cria");
  await packModel(gguf, path);
  const bytes = await readFile(path);
  const keysEnd = Number(bytes.readBigUInt64LE(at.keysEnd));
  const end = Number(bytes.readBigUInt64LE(at.indexEnd));
  const outcomes = { read: 0, refused: 0 };

  const expectSound = ({ packed }: PackedModel) => {
    const ranges = packed.map(({ offset, bytes }) => [offset, offset + bytes] as const).toSorted(([a], [b]) => a - b);
    for (const [i, [from, to]] of ranges.entries()) {
      expect(from % 4096 === 0 && from >= (ranges[i - 1]?.[1] ?? end) && to > from && to <= bytes.length).toBe(true);
    }
  };
  const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (changes) => {
    const mutant = Buffer.from(bytes);
    for (const { at: share, width, value } of changes) {
      // Half of them in the index, which is the smaller part.
      const place = share < 0.5 ? 2 * share * keysEnd : keysEnd + (2 * share - 1) * (end - keysEnd);
      const position = Math.min(Math.floor(place), end - 8);
      if (width === 8) mutant.writeBigUInt64LE(value, position);
      else mutant.writeUIntLE(Number(value % (1n << BigInt(8 * width))), position, width);
    }
    const sealed =
      mutant.readBigUInt64LE(at.indexEnd) <= BigInt(mutant.length) ? resealed(mutant, () => undefined) : mutant;
    await writeFile(path, sealed);
    try {
      expectSound(await readPacked(path));
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof CriaError)) throw error;
      expect(error).toBeInstanceOf(CriaFileError);
      outcomes.refused++;
    }
  });
  await fc.assert(property, { numRuns: 3000, seed: 20_230_227 });
  // Both must occur, or the mutants test nothing.
  expect(outcomes.read).toBeGreaterThan(30);
  expect(outcomes.refused).toBeGreaterThan(1500);
});
