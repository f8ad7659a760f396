import { createHash } from "node:crypto";

import { magic } from "../../../lib/weights/packed.js";
import type { Target } from "../target.js";
import { readAndSpeak } from "./gguf.js";

/** Where the header has them (lib/weights/packed.ts). */
const sizeAt = 24;
const indexEndAt = 40;
const hashAt = 48;
const keysAt = 80;

/**
 * Packed files. Where the size or the checksum of one is 0, it is what it should be: seeds have zeros there.
 */
export const packed: Target = {
  dictionary: [
    magic,
    "GGUF",
    "llama",
    "output.weight",
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.ffn_up.weight",
  ],
  complete(input) {
    const file = Buffer.from(input);
    if (file.length < keysAt) return file;
    if (file.readBigUInt64LE(sizeAt) === 0n) file.writeBigUInt64LE(BigInt(file.length), sizeAt);
    const indexEnd = file.readBigUInt64LE(indexEndAt);
    if (file.subarray(hashAt, keysAt).some((byte) => byte !== 0) || indexEnd > file.length) return file;
    const hash = createHash("sha256").update(file.subarray(0, hashAt));
    hash.update(file.subarray(keysAt, Math.max(keysAt, Number(indexEnd))));
    hash.digest().copy(file, hashAt);
    return file;
  },
  run: (_, path) => readAndSpeak(path),
};
