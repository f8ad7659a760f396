/**
 * node-llama-cpp as a peer. It is no dependency: it is found when it is asked for. It runs in a process of its own, which
 * stays and is asked for rounds, so that neither side has the other's threads, memory or garbage collector.
 */
import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

import { aborted, CriaError } from "../../lib/errors.js";
import { packageRoot, packageRootOf } from "../../lib/package.js";
import type { Loaded, Reply, Request } from "./node-llama-cpp-child.js";
import type { OpenPeer, Rates } from "./peer.js";

/** What the other process runs: compiled, also where the tests run this file's source. */
const program = join(packageRoot, "dist", "bench", "peers", "node-llama-cpp-child.js");

/** @throws CriaError ERR_CRIA_UNSUPPORTED where it is not installed in `folder` or above it */
export function findNodeLlamaCpp(folder: string): OpenPeer {
  const module = resolveFrom(resolve(folder));
  const { version } = JSON.parse(readFileSync(join(packageOf(module), "package.json"), "utf8"));
  return async ({ signal, tokens, ...work }) => {
    const child = new Child(program, signal);
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

function packageOf(module: string): string {
  const root = packageRootOf(dirname(module), "node-llama-cpp");
  if (root === undefined) throw new CriaError("ERR_CRIA_UNSUPPORTED", `peer: ${module} is in no package of its name`);
  return root;
}

/** The other process: one question at a time. */
export class Child {
  readonly #process: ChildProcess;
  #complaints = "";
  /** Why there are no more answers. */
  #failure: CriaError | undefined;
  /** Takes the answer to the question that was asked. */
  #asked: { resolve: (answer: never) => void; reject: (error: CriaError) => void } | undefined;

  /** @param program of Node.js, which answers each message that it gets with a {@link Reply} */
  constructor(program: string, signal: AbortSignal | undefined) {
    this.#process = fork(program, {
      execArgv: [],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      ...(signal && { signal }),
    });
    this.#process.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#complaints = (this.#complaints + text).slice(-2000);
    });
    // For as long as it lives: an error of it that nobody listens for would end this process too.
    this.#process
      .on("error", (error) => {
        const stopped = signal?.aborted === true;
        this.#end(stopped ? aborted("the peer", signal) : this.#failed(`cannot be reached: ${error.message}`));
      })
      .on("close", (code, by) => this.#end(this.#failed(`ended with ${code ?? by}`)))
      .on("message", (reply: Reply) => this.#settle(reply));
  }

  /** @throws CriaError ERR_CRIA_FILE where it fails or has ended, ERR_CRIA_ABORTED where the signal ended it */
  ask<Answer>(request: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      this.#asked = { resolve, reject };
      this.#process.send(request);
    });
  }

  #settle(reply: Reply): void {
    const asked = this.#asked;
    this.#asked = undefined;
    if ("error" in reply) asked?.reject(this.#failed(`failed: ${reply.error}`));
    else asked?.resolve(reply.answer as never);
  }

  /** The first reason is the one: what follows it, follows from it. */
  #end(failure: CriaError): void {
    this.#failure ??= failure;
    this.#asked?.reject(this.#failure);
    this.#asked = undefined;
  }

  #failed(problem: string): CriaError {
    const said = this.#complaints.trim();
    return new CriaError("ERR_CRIA_FILE", `peer: node-llama-cpp ${problem}${said && `: ${said}`}`);
  }

  /** Waits until the process has gone. */
  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("close", resolve));
    this.#process.kill();
    await gone;
  }
}
