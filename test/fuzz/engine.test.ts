/** The fuzzer of the readers finds what it is there to find. */
import { closeSync, openSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";

import { FoundError, fuzz, Place, runOnce } from "../../fuzz/readers/engine.js";
import type { Target } from "../../fuzz/readers/target.js";
import { CriaError, CriaFileError } from "../../lib/errors.js";
import { readHeader } from "../../lib/weights/gguf-header.js";
import { encodeGguf, llamaFile } from "../support/gguf-writer.js";

const target = (run: Target["run"], dictionary: string[] = []): Target => ({ dictionary, run });

async function finding(of: Target, input = "input"): Promise<FoundError> {
  using place = new Place();
  const found: unknown = await runOnce(of, Buffer.from(input), place).catch((error: unknown) => error);
  if (!(found instanceof FoundError)) throw new Error(`there must be a finding, not ${found}`);
  return found;
}

test("an error without one of cria's codes is a finding, and so is a fault of cria's own", async () => {
  const throws = (error: unknown) => target(() => Promise.reject(error));
  expect((await finding(throws(new RangeError("too much")))).message).toBe("RangeError: too much");
  await finding(throws(undefined));
  await finding(throws(Object.assign(new Error("no such file"), { code: "ENOENT" })));
  await finding(throws(new CriaError("ERR_CRIA_INTERNAL", "a fault")));
  using place = new Place();
  const refused = throws(new CriaFileError(place.path, undefined, "is damaged"));
  expect(await runOnce(refused, new Uint8Array(3), place)).toBe(false);
  expect(
    await runOnce(
      target(async () => undefined),
      new Uint8Array(3),
      place,
    ),
  ).toBe(true);
});

test("time, memory and a changed file are findings", async () => {
  const spin = target(async () => {
    const begin = process.cpuUsage();
    const seconds = ({ user, system }: NodeJS.CpuUsage) => (user + system) / 1e6;
    while (seconds(process.cpuUsage(begin)) < 1.1);
  });
  expect((await finding(spin)).message).toMatch(/^Finding: it took \d+\.\d\d s of the processor$/);
  const held: Buffer[] = [];
  const grow = target(async () => void held.push(Buffer.alloc(2 * process.resourceUsage().maxRSS * 1024, 1)));
  expect((await finding(grow)).message).toMatch(/^Finding: it took \d+ bytes of memory$/);
  const change = target(async (_, path) => writeFileSync(path, "other"));
  expect((await finding(change)).message).toBe("Finding: it changed its file");
});

test("a planted fault behind a reader's checks is found from a sound seed", async () => {
  const file = llamaFile({ layers: 1, dim: 8, heads: 1, kvHeads: 1, ffn: 8, vocab: 24, type: "f32" });
  const names = new Set(file.tensors.map(({ name }) => name));
  const planted = target(async (bytes, path) => {
    const fd = openSync(path, "r");
    try {
      const { tensors } = readHeader(fd, path, bytes.length);
      if (tensors.some(({ name }) => !names.has(name))) throw new Error("planted");
    } finally {
      closeSync(fd);
    }
  });
  const options = { seeds: [encodeGguf(file)], seconds: 60, seed: 1, onProgress: () => undefined };
  const found: unknown = await fuzz(planted, options).catch((error: unknown) => error);
  expect(found).toBeInstanceOf(FoundError);
  expect((found as FoundError).message).toBe("Error: planted");
});
