/**
 * node-llama-cpp as a peer. It is no dependency: it is found when it is asked for. It runs in a process of its own, which
 * stays and is asked for rounds, so that neither side has the other's threads, memory or garbage collector.
 */
import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

import { CriaError } from "../../lib/errors.js";
import { packageRoot, packageRootOf } from "../../lib/package.js";
import type { Loaded, Reply, Request } from "./node-llama-cpp-child.js";
import type { OpenPeer, Rates } from "./peer.js";

/** What the other process runs: compiled, also where the tests run this file's source. */
const program = join(packageRoot, "dist", "bench", "peers", "node-llama-cpp-child.js");

/** @throws CriaError ERR_CRIA_UNSUPPORTED where it is not installed in `folder` or above it */
export function findNodeLlamaCpp(folder: string): OpenPeer {
  const module = resolveFrom(resolve(folder));
  const { version } = JSON.parse(readFileSync(join(packageRootOf(dirname(module)), "package.json"), "utf8"));
  return async ({ signal, tokens, ...work }) => {
    const child = new Child(signal);
    try {
      const loaded = await child.ask<Loaded>({ module, ...work, tokens: [...tokens] });
      return {
        by: `node-llama-cpp ${version}`,
        isa: loaded.variant,
        loaded,
        round: () => child.ask<Rates>("round"),
        [Symbol.asyncDispose]: () => child.end(),
      };
    } catch (error) {
      await child.end();
      throw error;
    }
  };
}

function resolveFrom(folder: string): string {
  try {
    return createRequire(join(folder, "any.js")).resolve("node-llama-cpp");
  } catch (cause) {
    throw new CriaError(
      "ERR_CRIA_UNSUPPORTED",
      `peer: node-llama-cpp is not installed in ${folder} or above it. Install it beside the project with "npm install ` +
        `--no-save --ignore-scripts node-llama-cpp", or in a folder of its own that --peer-dir names`,
      { cause },
    );
  }
}

/** The other process: one question at a time. */
class Child {
  readonly #process: ChildProcess;
  #complaints = "";

  constructor(signal: AbortSignal | undefined) {
    this.#process = fork(program, {
      execArgv: [],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      ...(signal && { signal }),
    });
    this.#process.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#complaints = (this.#complaints + text).slice(-2000);
    });
  }

  ask<Answer>(request: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const fail = (problem: string) => {
        const said = this.#complaints.trim();
        reject(new CriaError("ERR_CRIA_UNSUPPORTED", `peer: node-llama-cpp ${problem}${said && `: ${said}`}`));
      };
      const ended = (code: number | null) => fail(`ended with ${code ?? "a signal"}`);
      this.#process.once("error", (error) => fail(`cannot be run: ${error.message}`)).once("close", ended);
      this.#process.once("message", (reply: Reply) => {
        this.#process.removeListener("close", ended).removeAllListeners("error");
        if ("error" in reply) fail(`failed: ${reply.error}`);
        else resolve(reply.answer as Answer);
      });
      this.#process.send(request);
    });
  }

  /** Waits until the process has gone. */
  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("close", resolve));
    this.#process.kill();
    await gone;
  }
}
