/** The readers of cria's JavaScript, each fuzzed in a process of its own, which has little memory and is watched. */
import { fork } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";

import { packageRoot } from "../lib/package.js";
import type { FuzzOptions } from "./main.js";
import type { Message } from "./readers/child.js";
import type { Totals } from "./readers/engine.js";
import type { Finding, Result } from "./result.js";

/** MiB of the heap: inputs have 64 KiB. */
const heap = 512;

/** A process that has said nothing for so long hangs; it says something every second, on a busy machine a little later. */
const silence = 30_000;

/** Runs one target until its time is up, or to its first finding. */
export async function fuzzReader(target: string, { seconds, seed, work, onLine }: FuzzOptions): Promise<Result> {
  const begin = performance.now();
  const child = fork(join(__dirname, "readers/child.js"), [target, `${seconds}`, `${seed}`, work], {
    execArgv: [`--max-old-space-size=${heap}`],
  });
  let totals: Totals = { inputs: 0, seconds: 0, features: 0, corpus: 0, accepted: 0 };
  let input: string | undefined;
  const findings: Finding[] = [];
  let done = false;
  let timer: NodeJS.Timeout | undefined;
  let hung = false;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      hung = true;
      child.kill("SIGKILL");
    }, silence);
  };
  wait();
  child.on("message", (message: Message) => {
    wait();
    if (message.kind === "input") input = message.path;
    if (message.kind === "progress" || message.kind === "done") totals = message.totals;
    if (message.kind === "progress") onLine(`${target}: ${JSON.stringify(totals)}`);
    if (message.kind === "done") done = true;
    if (message.kind === "finding") {
      console.error(message.stack);
      findings.push({ what: message.what, input: relative(packageRoot, message.input) });
    }
  });
  const end = await new Promise<number | string | null>((resolve, reject) => {
    // Closed, and not only ended: what it told last is then heard.
    child.on("error", reject).on("close", (code, signal) => resolve(code ?? signal));
  });
  clearTimeout(timer);
  if (!done && findings.length === 0) {
    findings.push({ what: hung ? "it hangs" : `the process ended with ${end}`, input: rescue(target, work, input) });
  }
  const { inputs, features, corpus } = totals;
  return { target, inputs, seconds: (performance.now() - begin) / 1000, coverage: features, corpus, findings };
}

/** Keeps the input that a process ended on, and takes away the folder that it left. */
function rescue(target: string, work: string, input: string | undefined): string {
  if (input === undefined || !existsSync(input)) return "none";
  const path = join(work, "findings", `${target}-end-${Date.now()}`);
  mkdirSync(join(work, "findings"), { recursive: true });
  copyFileSync(input, path);
  rmSync(dirname(input), { recursive: true, force: true });
  return relative(packageRoot, path);
}
