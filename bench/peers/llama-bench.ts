/**
 * llama.cpp's own benchmark as a peer, or that of a fork which has kept its options. Each round starts it anew, so that
 * its threads are gone while others are measured; it loads and warms up before it measures.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { CriaFileError } from "../../lib/errors.js";
import type { OpenPeer, PeerWork } from "./peer.js";

/** What it prints of a test with "-o json". */
interface Test {
  build_commit?: string;
  build_number?: number;
  samples_ns: [number];
}

/**
 * How it is told to decode after a context: llama.cpp by "-d", ik_llama.cpp by "-gp"; both leave the context's time out.
 * Told by what its help names.
 */
const decodeForms: readonly { named: string; args: (work: PeerWork) => string[] }[] = [
  { named: "--n-depth", args: ({ context, gen }) => ["-p", "0", "-n", `${gen}`, "-d", `${context}`] },
  { named: "-gp <", args: ({ context, gen }) => ["-p", "0", "-n", "0", "-gp", `${context},${gen}`] },
];

/** @throws CriaFileError ERR_CRIA_FILE where `program` cannot be run or is not llama-bench */
export async function findLlamaBench(program: string): Promise<OpenPeer> {
  const help = await run(program, ["--help"]);
  const form = decodeForms.find(({ named }) => help.includes(named));
  if (form === undefined) {
    const wanted = decodeForms.map(({ named }) => named.replace(" <", "")).join(" or ");
    throw new CriaFileError(program, undefined, `must be a llama-bench whose --help names ${wanted}`);
  }
  return async (work) => {
    const { model, threads, cache, prompt, gen, signal } = work;
    const { keys, values } = cache;
    const test = async (args: readonly string[]) => {
      // Its own default is f16, and not every fork can be told so.
      const types = keys === "f16" && values === "f16" ? [] : ["-ctk", keys, "-ctv", values];
      const common = ["-m", model, "-t", `${threads}`, "-ngl", "0", "-r", "1", "-o", "json", ...types];
      return testOf(program, await run(program, [...common, ...args], signal));
    };
    const prefill = ["-p", `${prompt}`, "-n", "0"];
    const { build_commit: commit = "of an unknown commit", build_number: number } = await test(["-p", "1", "-n", "0"]);
    return {
      by: `llama-bench ${commit}${number === undefined ? "" : ` (${number})`}`,
      isa: "as built",
      async round() {
        return {
          prefill: (prompt / (await test(prefill)).samples_ns[0]) * 1e9,
          decode: (gen / (await test(form.args(work))).samples_ns[0]) * 1e9,
        };
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  };
}

async function run(program: string, args: readonly string[], signal?: AbortSignal): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, args, { maxBuffer: 16 << 20, ...(signal && { signal }) });
    return stdout;
  } catch (cause) {
    const { code, message, stderr } = cause as NodeJS.ErrnoException & { stderr?: string };
    const last = stderr?.trim().split("\n").at(-1);
    const reason = typeof code === "number" ? `it exited with ${code}${last ? `: ${last}` : ""}` : message;
    throw new CriaFileError(program, undefined, `cannot be run as llama-bench: ${reason}`, "ERR_CRIA_FILE", { cause });
  }
}

/** The only test of a run of one repetition. */
function testOf(program: string, output: string): Test {
  const tests = parsed(output);
  const samples: unknown = Array.isArray(tests) && tests.length === 1 ? tests[0]?.samples_ns : undefined;
  if (Array.isArray(samples) && samples.length === 1 && samples[0] > 0) return (tests as [Test])[0];
  const problem = `must print one test of one sample as JSON, not ${JSON.stringify(output.slice(0, 200))}`;
  throw new CriaFileError(program, undefined, problem);
}

function parsed(output: string): unknown {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}
