import { createHash } from "node:crypto";
import { join } from "node:path";

import { loadModel, type Model } from "../../../lib/index.js";
import { corpusOf } from "../../folders.js";
import { Finding, type Target } from "../target.js";

/** Where the header has them (lib/session.ts). */
const sizeAt = 16;
const countAt = 24;
const indexHashAt = 80;
const tokensAt = 112;
const hashBytes = 32;

let loaded: Promise<Model> | undefined;

/** The model that the seeds are of, itself a seed. */
function model(): Promise<Model> {
  loaded ??= loadModel(join(corpusOf("gguf"), "f32"), { threads: 1, onWarning: () => undefined });
  return loaded;
}

/**
 * Saved sequences, which go on where they are sound. Where the size or a checksum of one is 0, it is what it should be:
 * seeds have zeros there.
 */
export const sessions: Target = {
  dictionary: ["CRIASESS"],
  complete(input) {
    const file = Buffer.from(input);
    if (file.length < tokensAt + hashBytes) return file;
    if (file.readBigUInt64LE(sizeAt) === 0n) file.writeBigUInt64LE(BigInt(file.length), sizeAt);
    const tokensEnd = tokensAt + 4 * file.readUInt32LE(countAt);
    const isZero = (from: number) => file.subarray(from, from + hashBytes).every((byte) => byte === 0);
    if (tokensEnd <= file.length && isZero(indexHashAt)) {
      const hash = createHash("sha256")
        .update(file.subarray(0, indexHashAt))
        .update(file.subarray(tokensAt, tokensEnd));
      hash.digest().copy(file, indexHashAt);
    }
    const end = file.length - hashBytes;
    if (isZero(end)) createHash("sha256").update(file.subarray(0, end)).digest().copy(file, end);
    return file;
  },
  async run(_, path) {
    const owner = await model();
    try {
      await goOn(owner, path);
    } catch (error) {
      checkFree(owner);
      throw error;
    }
    checkFree(owner);
  },
};

async function goOn(owner: Model, path: string): Promise<void> {
  using sequence = await owner.loadSequence(path);
  if (sequence.length < owner.config.contextLength) await sequence.forward(Int32Array.of(5), "last");
}

function checkFree({ runtime: { pool } }: Model): void {
  if (pool.freeBlocks !== pool.blocks) throw new Finding("blocks of the cache were not given back");
}
