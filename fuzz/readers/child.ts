/** The process that a reader is fuzzed in: `node child.js TARGET SECONDS SEED WORK`, which tells its parent how it goes. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { corpusOf, crashesOf, inputsIn } from "../folders.js";
import { FoundError, fuzz, type Totals } from "./engine.js";
import { readerTargets } from "./targets.js";

export type Message =
  | { kind: "input"; path: string }
  | { kind: "progress"; totals: Totals }
  | { kind: "done"; totals: Totals }
  | { kind: "finding"; what: string; stack: string; input: string };

const tell = (message: Message): void => {
  process.send?.(message);
};

async function main([name, seconds, seed, work]: readonly string[]): Promise<void> {
  const found = join(work!, "corpus", name!);
  mkdirSync(found, { recursive: true });
  const folders = [corpusOf(name!), crashesOf(name!), found];
  try {
    const totals = await fuzz(readerTargets[name!]!, {
      seeds: folders.flatMap(inputsIn).map(({ bytes }) => bytes),
      seconds: Number(seconds),
      seed: Number(seed),
      onPlace: (path) => tell({ kind: "input", path }),
      onProgress: (totals) => tell({ kind: "progress", totals }),
      onNew: (input) => keep(found, input),
    });
    tell({ kind: "done", totals });
  } catch (error) {
    if (!(error instanceof FoundError)) throw error;
    const input = keep(join(work!, "findings"), error.input, `${name}-`);
    tell({ kind: "finding", what: error.message, stack: String((error.cause as Error)?.stack), input });
  }
}

function keep(folder: string, input: Uint8Array, prefix = ""): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, prefix + createHash("sha1").update(input).digest("hex"));
  writeFileSync(path, input);
  return path;
}

void main(process.argv.slice(2)).finally(() => process.disconnect?.());
