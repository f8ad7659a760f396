import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";

import { alternate, peerResults, ratios } from "../../bench/peers/alternate.js";
import { Child } from "../../bench/peers/node-llama-cpp.js";
import { findPeer, type PeerWork } from "../../bench/peers/peer.js";
import type { Result } from "../../bench/schema.js";
import { needFiles, packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";

const work: PeerWork = {
  model: "model.gguf",
  threads: 3,
  cache: { keys: "f16", values: "f16" },
  tokens: Int32Array.from({ length: 20 }, (_, i) => 7 * i + 1),
  prompt: 10,
  context: 6,
  gen: 4,
};

/** A program that answers as llama-bench does, and notes what it was asked. */
async function standIn(folder: string, help: string, answer: string): Promise<{ path: string; asked: string }> {
  const path = join(folder, "llama-bench");
  const asked = join(folder, "asked");
  const script = `#!/bin/sh\nif [ "$1" = --help ]; then echo '${help}'; exit; fi\necho "$*" >> '${asked}'\n${answer}\n`;
  await writeFile(path, script);
  await chmod(path, 0o755);
  return { path, asked };
}

const test = `echo '[ { "build_commit": "abc", "build_number": 7, "samples_ns": [ 500000000 ] } ]'`;

describe("llama-bench", () => {
  it.for([
    ["-d, --n-depth <n>", "-p 0 -n 4 -d 6", {}],
    ["-gp <pg,tg>", "-p 0 -n 0 -gp 6,4", {}],
    ["-d, --n-depth <n>", "-ctk q8_0 -ctv f32 -p 0 -n 4 -d 6", { cache: { keys: "q8_0", values: "f32" } }],
  ] as const)("decodes after the context (help: %j)", async ([help, decode, changes]) => {
    await using folder = await temporaryFolder();
    const { path, asked } = await standIn(folder.path, help, test);
    const open = await findPeer(`llama-bench:${path}`, ".");
    await using peer = await open({ ...work, ...changes });
    expect(peer).toMatchObject({ by: "llama-bench abc (7)", isa: "as built" });
    expect(await peer.round()).toEqual({ prefill: 20, decode: 8 });
    const lines = (await readFile(asked, "utf8")).trim().split("\n");
    expect(lines.at(-2)).toMatch(/^-m model.gguf -t 3 -ngl 0 -r 1 -o json .*-p 10 -n 0$/);
    expect(lines.at(-1)).toBe(`-m model.gguf -t 3 -ngl 0 -r 1 -o json ${decode}`);
  });

  it("a program that is absent, or another one, is refused before anything is loaded", async () => {
    await expect(findPeer("llama-bench:/absent", ".")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/^\/absent: cannot be run as llama-bench: .*ENOENT/),
    });
    await using folder = await temporaryFolder();
    const { path } = await standIn(folder.path, "usage", test);
    await expect(findPeer(`llama-bench:${path}`, ".")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: must be a llama-bench whose --help names --n-depth or -gp`,
    });
  });

  it.for([
    ["echo no model >&2; exit 3", "cannot be run as llama-bench: it exited with 3: no model"],
    ["echo pp512", 'must print one test of one sample as JSON, not "pp512\\n"'],
    ["echo '[]'", 'must print one test of one sample as JSON, not "[]\\n"'],
    [`echo '[{"samples_ns": [0]}]'`, 'must print one test of one sample as JSON, not "[{\\"samples_ns\\": [0]}]\\n"'],
  ] as const)("%j is an error that names it", async ([answer, problem]) => {
    await using folder = await temporaryFolder();
    const { path } = await standIn(folder.path, "--n-depth", answer);
    const open = await findPeer(`llama-bench:${path}`, ".");
    await expect(open(work)).rejects.toMatchObject({ code: "ERR_CRIA_FILE", message: `${path}: ${problem}` });
  });
});

/**
 * A package that answers as node-llama-cpp does. It fails where it is not asked for the tokens in their order, or for
 * more than fit; evaluating takes it 2 ms, and sampling 200.
 */
const standInPackage = `
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const check = (holds, what) => { if (!holds) throw new Error(what); };
class AddonContext { async decodeBatch() { await sleep(2); } }
Object.freeze(AddonContext.prototype);
export async function getLlama({ build, gpu }) {
  check(build === "never" && gpu === false, "build");
  return { async loadModel({ modelPath }) {
    check(modelPath === "model.gguf", "process " + process.pid + " cannot load " + modelPath);
    return { weights: Buffer.alloc(1 << 23, 1), async createContext({ contextSize, threads, experimentalKvCacheKeyType }) {
      check(threads === 3 && experimentalKvCacheKeyType === "F16", "threads and cache");
      const native = new AddonContext();
      let cells = 0;
      const evaluate = async (tokens) => {
        for (const token of tokens) check(token === 7 * cells++ + 1, "token " + token);
        check(cells <= contextSize, "full");
        await native.decodeBatch();
      };
      return { _ctx: native, getSequence: () => ({
        get nextTokenIndex() { return cells; },
        async clearHistory() { cells = 0; },
        async eraseContextTokenRanges([{ start, end }]) { if (start < end) { check(end === cells, "end"); cells = start; } },
        evaluateWithoutGeneratingNewTokens: evaluate,
        async controlledEvaluate(input) {
          const [last, { generateNext }] = input.at(-1);
          check(generateNext.token === true && generateNext.options.temperature === 0, "greedy");
          await evaluate([...input.slice(0, -1), last]);
          await sleep(200);
        },
      }) };
    } };
  } };
}`;

async function installed(folder: string): Promise<void> {
  const at = join(folder, "node_modules", "node-llama-cpp");
  await mkdir(at, { recursive: true });
  await writeFile(
    join(at, "package.json"),
    JSON.stringify({ name: "node-llama-cpp", version: "3.0.0", type: "module", exports: "./index.js" }),
  );
  await writeFile(join(at, "index.js"), standInPackage);
}

/** Whether there is a process of that id. */
function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("node-llama-cpp", () => {
  const program = packageFile("dist", "bench", "peers", "node-llama-cpp-child.js");

  it("says how to install it where it is absent", async () => {
    await using folder = await temporaryFolder();
    await expect(findPeer("node-llama-cpp", folder.path)).rejects.toMatchObject({
      code: "ERR_CRIA_UNSUPPORTED",
      message: expect.stringMatching(
        /^peer: node-llama-cpp is not installed in .*"npm install --no-save --ignore-scripts node-llama-cpp".*--peer-dir/,
      ),
    });
  });

  it.for([6, 10, 14])(
    "reads the tokens in a process of its own, and times that alone (context: %i)",
    async (past, at) => {
      needFiles(at, program);
      await using folder = await temporaryFolder();
      await installed(folder.path);
      const open = await findPeer("node-llama-cpp", folder.path);
      await using peer = await open({ ...work, context: past });
      expect(peer).toMatchObject({ by: "node-llama-cpp 3.0.0", isa: "unknown" });
      expect(peer.loaded!.residentBytes).toBeGreaterThan(1e6);
      for (let i = 0; i < 2; i++) {
        const { prefill, decode } = await peer.round();
        expect(prefill).toBeGreaterThan(10 / 0.2);
        expect(decode).toBeGreaterThan(1 / 0.2);
      }
    },
  );

  it("what fails there is an error here, and the process ends", async (at) => {
    needFiles(at, program);
    await using folder = await temporaryFolder();
    await installed(folder.path);
    const open = await findPeer("node-llama-cpp", folder.path);
    const error = await open({ ...work, model: "other.gguf" }).catch((error) => error);
    expect(error).toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/^peer: node-llama-cpp failed: process \d+ cannot load other\.gguf$/),
    });
    expect(lives(Number(/\d+/.exec(error.message)![0]))).toBe(false);
  });
});

/** A program that answers as node-llama-cpp's does: with its process, after a question. */
async function answering(folder: string): Promise<string> {
  const path = join(folder, "child.mjs");
  await writeFile(path, `process.on("message", () => process.send({ answer: process.pid }));`);
  return path;
}

describe("a peer's process", () => {
  it("that a signal ends between two questions fails the next one, and nothing else", async () => {
    await using folder = await temporaryFolder();
    const controller = new AbortController();
    const child = new Child(await answering(folder.path), controller.signal);
    const pid = await child.ask<number>("round");
    controller.abort();
    await vi.waitUntil(() => !lives(pid));
    await expect(child.ask("round")).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    await child.end();
  });

  it("that is killed between two questions fails the next one", async () => {
    await using folder = await temporaryFolder();
    const child = new Child(await answering(folder.path), undefined);
    const pid = await child.ask<number>("round");
    process.kill(pid, "SIGKILL");
    await vi.waitUntil(() => !lives(pid));
    await expect(child.ask("round")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/^peer: node-llama-cpp (ended with SIGKILL|cannot be reached)/),
    });
    await child.end();
  });

  it("that is killed while it is asked fails that question", async () => {
    await using folder = await temporaryFolder();
    const child = new Child(await answering(folder.path), undefined);
    const pid = await child.ask<number>("round");
    process.kill(pid, "SIGSTOP");
    const asked = child.ask("round");
    process.kill(pid, "SIGKILL");
    await expect(asked).rejects.toMatchObject({ message: "peer: node-llama-cpp ended with SIGKILL" });
  });

  it("is gone when it was ended", async () => {
    await using folder = await temporaryFolder();
    const child = new Child(await answering(folder.path), undefined);
    const pid = await child.ask<number>("round");
    expect(lives(pid)).toBe(true);
    await child.end();
    expect(lives(pid)).toBe(false);
  });
});

it("another peer is refused", async () => {
  await expect(findPeer("ollama", ".")).rejects.toMatchObject({
    code: "ERR_CRIA_ARGUMENT",
    message: 'peer: must be node-llama-cpp or llama-bench:PATH, not "ollama"',
  });
});

describe("alternate", () => {
  it("has them run in turn, one at a time", async () => {
    const order: string[] = [];
    const contender = (name: string, rate: number) => ({
      async round() {
        order.push(`${name} begins`);
        await new Promise(setImmediate);
        order.push(`${name} ends`);
        return { prefill: rate, decode: rate };
      },
    });
    const [a, b] = await alternate([contender("a", 1), contender("b", 2)] as const, { least: 2, most: 9, seconds: 0 });
    const turn = ["a begins", "a ends", "b begins", "b ends"];
    expect(order).toEqual([...turn, ...turn]);
    expect(a).toEqual([1, 1].map((rate) => ({ prefill: rate, decode: rate })));
    expect(b).toHaveLength(2);
  });

  it("ends between two rounds where a signal says so", async () => {
    const controller = new AbortController();
    let rounds = 0;
    const round = async () => {
      if (++rounds === 2) controller.abort();
      return { prefill: 1, decode: 1 };
    };
    const asked = alternate([{ round }, { round }], { least: 3, most: 3, seconds: 1 }, controller.signal);
    await expect(asked).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(rounds).toBe(2);
  });

  it("runs no more rounds than the most", async () => {
    const round = async () => ({ prefill: 1, decode: 1 });
    expect(await alternate([{ round }], { least: 1, most: 3, seconds: 60 })).toEqual([Array(3).fill(await round())]);
  });
});

const ours = (name: string, value: number, limit: number | null): Result => ({
  name,
  by: "cria",
  isa: "avx512",
  threads: 2,
  value,
  unit: name === "load" ? "s" : "tok/s",
  limit,
  share: null,
  spread: 0,
  samples: 5,
  at: { format: "q4_0" },
});

it("a peer's medians stand against cria's limits, and under cria's in the ratios", () => {
  const cria = [ours("prefill", 30, null), ours("decode", 12, 20), ours("load", 1, null)];
  const rounds = [1, 2, 3].map((i) => ({ prefill: 5 * i, decode: 4 * i }));
  const peer = {
    by: "peer 1",
    isa: "zen4",
    loaded: { seconds: 4, residentBytes: 20 },
    [Symbol.asyncDispose]: async () => {},
  };
  const theirs = peerResults(cria, peer, rounds, 10);
  expect(theirs.map(({ name, by, isa, value, share, samples }) => [name, by, isa, value, share, samples])).toEqual([
    ["prefill", "peer 1", "zen4", 10, null, 3],
    ["decode", "peer 1", "zen4", 8, 0.4, 3],
    ["load", "peer 1", "zen4", 4, null, 1],
  ]);
  const common = { peer: "peer 1, zen4", isa: "avx512", threads: 2, at: { format: "q4_0" } };
  expect(ratios(cria, theirs)).toEqual([
    { name: "prefill", value: 3, ...common },
    { name: "decode", value: 1.5, ...common },
  ]);
});
