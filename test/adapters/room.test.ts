/** The memory that adapters take: told before it is taken. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import { readAdapter } from "../../lib/adapters/adapter.js";
import { type AdapterFile, adapterBytes, outlineOf, readAdapterFile } from "../../lib/adapters/adapter-file.js";
import { packAdapters } from "../../lib/adapters/beside.js";
import { roomBeside } from "../../lib/adapters/loading.js";
import { packedRoom } from "../../lib/adapters/room.js";
import { loadModel, type Model } from "../../lib/index.js";
import { native, type TensorHandle } from "../../lib/native.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { llamaFile, type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { bytesOf, knownUpdates, loraGguf } from "../support/lora.js";
import { encodeSafetensors } from "../support/safetensors-writer.js";

let folder: TemporaryFolder;
let path: string;
let config: LlamaConfig;
beforeAll(async () => {
  folder = await temporaryFolder();
  path = await folder.write("model.gguf", llamaFile({ type: "f32" }));
  ({ config } = await readLlama(path));
});
afterAll(() => folder[Symbol.asyncDispose]());

const prefix = { prefixLength: 3, rawGates: false };

async function loraOf(targets: RegExp, rank: number): Promise<string> {
  return await folder.write(`${rank}.gguf`, loraGguf(knownUpdates(config, targets, { seed: rank, rank })));
}

/** For the last layer. */
async function prefixFile(): Promise<string> {
  const floats = (length: number) => bytesOf(new Float32Array(length).fill(0.25));
  const tensors: Parameters<typeof encodeSafetensors>[0]["tensors"] = {
    "adapter_query.weight": { dtype: "F32", shape: [3, config.dim], data: floats(3 * config.dim) },
  };
  for (let layer = 0; layer < config.layers; layer++) {
    const gate = { dtype: "F32", shape: [1, config.heads, 1, 1], data: floats(config.heads) };
    tensors[`layers.${layer}.attention.gate`] = gate;
  }
  return await folder.write("prefix.safetensors", encodeSafetensors({ tensors }));
}

async function load(): Promise<Model> {
  const model = await loadModel(path);
  onTestFinished(() => model.dispose());
  return model;
}

/** Leaves `bytes` of memory, until the test is finished. */
function haveMemory(model: Model, bytes: number): void {
  vi.spyOn(native, "deviceInfo").mockReturnValue({ ...model.device.info, availableBytes: bytes });
  onTestFinished(() => void vi.restoreAllMocks());
}

const outOfMemory = (message: RegExp) =>
  expect.objectContaining({ code: "ERR_CRIA_MEMORY", message: expect.stringMatching(message) });

describe("what adapters take on the device", () => {
  const kinds: [string, () => Promise<string[]>][] = [
    ["of q, k and v", async () => [await loraOf(/attn_[qkv]/, 5)]],
    ["of k alone", async () => [await loraOf(/attn_k/, 6)]],
    ["of all matrices", async () => [await loraOf(/./, 7)]],
    ["of several, and a prefix", async () => [await loraOf(/./, 8), await loraOf(/ffn/, 9), await prefixFile()]],
  ];
  test.each(kinds)("is known to the byte: %s", async (_, write) => {
    const model = await load();
    const files = await Promise.all((await write()).map((each) => readAdapterFile(each, prefix)));
    const room = packedRoom(
      config,
      "cpu",
      files.map((file) => outlineOf(file, config)),
    );
    const adapters = await Promise.all(files.map((file) => readAdapter(file, config, model.device)));
    const scaled = adapters.map(({ parts }) => ({ ...parts, scale: 1 }));
    expect(packedRoom(config, "cpu", scaled)).toEqual(room);

    const created: TensorHandle[] = [];
    for (const make of ["matrixCreate", "vectorCreate"] as const) {
      const original = native[make];
      vi.spyOn(native, make).mockImplementation((...args: Parameters<typeof native.matrixCreate>) => {
        created.push((original as typeof native.matrixCreate)(...args));
        return created.at(-1)!;
      });
    }
    onTestFinished(() => void vi.restoreAllMocks());
    using _packed = await packAdapters(model.device, config, model.runtime.weights, scaled);
    expect(created.reduce((sum, tensor) => sum + native.tensorBytes(tensor), 0)).toBe(room.device);
    expect(room.device).toBeGreaterThan(0);
  });

  test("is more than the file has, of matrices that share an input", async () => {
    const file = await readAdapterFile(await loraOf(/attn_[qkv]/, 16), prefix);
    expect(packedRoom(config, "cpu", [outlineOf(file, config)]).device).toBeGreaterThan(1.4 * adapterBytes(file));
  });
});

test("setting needs the memory that it takes, and one byte less is refused", async () => {
  const model = await load();
  const adapter = await model.loadAdapter(await loraOf(/attn_[qkv]/, 10));
  const { host, device } = packedRoom(config, "cpu", [adapter.parts]);
  const before = native.handleCounts();
  haveMemory(model, host + device - 1);
  await expect(model.setAdapters([{ adapter }])).rejects.toThrow(outOfMemory(/^adapters: must fit the .* but takes /));
  expect(native.handleCounts()).toEqual(before);
  expect(model.adapters).toEqual([]);
  haveMemory(model, host + device);
  await model.setAdapters([{ adapter }]);
  haveMemory(model, 0);
  await expect(model.setAdapters([{ adapter, scale: 2 }])).rejects.toThrow(outOfMemory(/adapters/));
  expect(model.adapters).toEqual([{ adapter, scale: 1 }]);
  await model.setAdapters([]);
});

test("loading a model reckons with all that is read, and with what of it is set", async () => {
  const model = await load();
  const [one, other] = [await loraOf(/attn_[qkv]/, 12), await loraOf(/ffn/, 13)];
  const files = await Promise.all([one, other].map((each) => readAdapterFile(each, prefix)));
  const [set, unset] = files as [AdapterFile, AdapterFile];
  const { host, device } = packedRoom(config, "cpu", [outlineOf(set, config)]);
  const wanted = [
    { file: set, scale: 0.5 },
    { file: unset, scale: 0 },
  ];
  expect(roomBeside(wanted, config, model.device)).toBe(adapterBytes(set) + adapterBytes(unset) + host + device);
});

test("reading needs the memory to be set as well", async () => {
  const model = await load();
  const written = await loraOf(/attn_[qkv]/, 11);
  const file = await readAdapterFile(written, prefix);
  const { host, device } = packedRoom(config, "cpu", [outlineOf(file, config)]);
  const needed = adapterBytes(file) + host + device;
  haveMemory(model, needed - 1);
  await expect(model.loadAdapter(written)).rejects.toThrow(outOfMemory(/11\.gguf: must fit/));
  haveMemory(model, needed);
  await model.loadAdapter(written);
});
