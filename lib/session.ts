/**
 * A sequence in a file: its tokens, and the blocks of the KV cache that hold their keys and values. All numbers are
 * little-endian.
 *
 *         0  "CRIASESS"
 *         8  u32  0x01020304, for a file of the other byte order
 *        12  u32  version of this format
 *        16  u64  size of the file
 *        24  u32  number of tokens
 *        28  u32  type of the keys, u32 of the values, as GGUF's ids
 *        36  u32  layers, u32 heads of keys and values, u32 dimensions of a head
 *        48       fingerprint of the model (lib/fingerprint.ts)
 *        80       SHA-256 of all before it, and of the tokens
 *       112       tokens, i32 each
 *                 blocks: for each 16 tokens, begun or whole, one block in the order of cria_cache_read
 *                 SHA-256 of all before it
 *
 * Two checksums, so that neither tokens nor a size are believed before they were checked, and the blocks, which may be
 * gigabytes, are read once: they are written to the cache as they come, and {@link SavedSession.restore} says only at
 * the end whether they are what was saved.
 *
 * The checksums tell of damage, not of intent: whoever can write a file can make them good. Such a file can make its
 * own sequence go wrong, and nothing else.
 *
 * Places of the last block behind the last token are zero. What the cache has there may be of another sequence, which
 * had the block before, and whose text could be told from it.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

import { CriaFileError, integer, outOfRange, show, wrongType } from "./errors.js";
import { Replacement, readAll, readAllOf } from "./files.js";
import { fingerprintBytes } from "./fingerprint.js";
import { blockBytes, blockTokens, elementBytes, scaleCount } from "./kv-block.js";
import type { CacheShape } from "./native.js";
import { readFrom, unreadable } from "./weights/open.js";
import { weightFormats } from "./weights/source.js";

const magic = "CRIASESS";
const byteOrder = 0x01020304;
const formatVersion = 1;
const fingerprintAt = 48;
const indexHashAt = fingerprintAt + fingerprintBytes;
const tokensAt = indexHashAt + 32;
const hashBytes = 32;

/** What is read or written at a time, where a block is no larger: enough that calls cost nothing beside it. */
const pieceBytes = 4 * 2 ** 20;

/** What a cache's blocks fit: caches of that shape, filled by that model. */
export interface SessionModel {
  readonly shape: CacheShape;
  /** Of {@link modelFingerprint}. */
  readonly fingerprint: Uint8Array;
}

/** A sequence to be saved. */
export interface Session extends SessionModel {
  readonly tokens: Int32Array;
  /** The block of tokens 16i to 16i + 15, for each i. */
  readonly blocks: ArrayLike<number>;
  /** Fills `into` with the bytes of blocks, as cacheRead does. */
  read(blocks: Int32Array, into: Uint8Array): Promise<void>;
}

/** What a session is to be loaded into. */
export interface SessionTarget extends SessionModel {
  /** Token ids are below it. */
  readonly vocab: number;
  /** Tokens that a sequence may have. */
  readonly contextLength: number;
}

/** A session whose tokens were read and checked; its blocks were not yet. */
export interface SavedSession {
  readonly tokens: Int32Array;
  /**
   * Writes the blocks to those of `blocks`, as many as the tokens need, by `write`, as cacheWrite does. Where it
   * throws, those blocks hold neither what they held nor what was saved, and others are untouched.
   *
   * @throws CriaFileError where the file is damaged, was cut, or is no longer the one that the tokens are from
   */
  restore(blocks: ArrayLike<number>, write: (blocks: Int32Array, bytes: Uint8Array) => Promise<void>): Promise<void>;
}

/**
 * Saves a sequence. The file takes its name only when it is whole and on the disk.
 *
 * @returns the size of the file
 * @throws RangeError where there are fewer blocks than the tokens need
 * @throws CriaFileError where it cannot be written, and what `read` throws
 */
export async function saveSession(path: string, session: Session): Promise<{ bytes: number }> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  const { shape, tokens, read } = session;
  const blocks = blockTable(session.blocks, tokens.length);
  const index = encodeIndex(session);
  await using replacement = await Replacement.open(path);
  const hash = createHash("sha256");
  let written = 0;
  const write = async (bytes: Uint8Array) => {
    hash.update(bytes);
    await replacement.write(bytes);
    written += bytes.length;
  };
  await write(index);
  const begun = tokens.length % blockTokens; // places of the last block, unless it is whole
  for (const { piece, bytes } of piecesOf(blocks, shape)) {
    await read(piece, bytes);
    if (begun > 0 && piece.at(-1) === blocks.at(-1)) clearPlaces(bytes.subarray(-blockBytes(shape)), shape, begun);
    await write(bytes);
  }
  await replacement.write(hash.digest());
  await replacement.finish();
  return { bytes: written + hashBytes };
}

/**
 * Reads what a saved sequence begins with, and checks it. No more than the tokens of one context is held in memory.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that cannot be read, is no session, was cut or is damaged, or that
 *   does not fit the model, the cache or the context; ERR_CRIA_UNSUPPORTED for one of another version or byte order
 */
export async function loadSession(path: string, target: SessionTarget): Promise<SavedSession> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  const index = await readFrom(path, undefined, (fd, size) => readIndex(path, fd, size, target));
  const bytes = index.subarray(tokensAt);
  const tokens = Int32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i));
  checkModel(path, index, target);
  checkTokens(path, tokens, target.vocab);
  return {
    tokens,
    restore: async (blocks, write) => restore(path, index, blockTable(blocks, tokens.length), target.shape, write),
  };
}

/** The first of `blocks` that so many tokens need. */
function blockTable(blocks: ArrayLike<number>, tokens: number): Int32Array {
  const needed = Math.ceil(tokens / blockTokens);
  if (blocks.length < needed) {
    throw outOfRange("blocks.length", `at least ${needed} for ${tokens} tokens`, blocks.length);
  }
  const table = new Int32Array(needed);
  const seen = new Set<number>();
  for (let i = 0; i < needed; i++) {
    const block = integer(`blocks[${i}]`, blocks[i], 0, 2 ** 31 - 1);
    if (seen.has(block)) throw outOfRange(`blocks[${i}]`, "a block that was not named before", block);
    seen.add(block);
    table[i] = block;
  }
  return table;
}

/** The blocks in pieces, with a place for the bytes of each, which the next piece takes again. */
function* piecesOf(blocks: Int32Array, shape: CacheShape): Generator<{ piece: Int32Array; bytes: Buffer }> {
  const each = blockBytes(shape);
  const most = Math.max(1, Math.floor(pieceBytes / each));
  const place = Buffer.alloc(Math.min(most, blocks.length) * each);
  for (let from = 0; from < blocks.length; from += most) {
    const piece = blocks.subarray(from, from + most);
    yield { piece, bytes: place.subarray(0, piece.length * each) };
  }
}

/** Clears, in a block as cacheRead gives it, the places from `first` on. */
function clearPlaces(block: Uint8Array, { keys, values, layers, kvHeads, headDim }: CacheShape, first: number): void {
  let at = 0;
  // `count` rows of sixteen tokens each, of so many bytes a token.
  const clear = (count: number, bytes: number) => {
    for (; count > 0; count--, at += blockTokens * bytes) block.fill(0, at + first * bytes, at + blockTokens * bytes);
  };
  for (let head = 0; head < layers * kvHeads; head++) {
    clear(headDim, elementBytes[keys]);
    clear(scaleCount(keys, headDim), 2);
    clear(1, headDim * elementBytes[values]);
    clear(scaleCount(values, headDim), 2);
  }
}

/** The numbers of the header that the shape of a cache gives, in their order. */
function shapeNumbers({ keys, values, layers, kvHeads, headDim }: CacheShape): number[] {
  return [weightFormats[keys].id, weightFormats[values].id, layers, kvHeads, headDim];
}

/** The size of a session's file. A bigint: the number of tokens may be any that the file says. */
function sizeOf(tokens: number, shape: CacheShape): bigint {
  const blocks = Math.ceil(tokens / blockTokens);
  return BigInt(tokensAt + 4 * tokens + hashBytes) + BigInt(blocks) * BigInt(blockBytes(shape));
}

/** All before the blocks. */
function encodeIndex({ shape, fingerprint, tokens }: Session): Buffer {
  if (fingerprint.length !== fingerprintBytes) {
    throw outOfRange("fingerprint.length", String(fingerprintBytes), fingerprint.length);
  }
  const index = Buffer.alloc(tokensAt + 4 * tokens.length);
  index.write(magic, "latin1");
  index.writeUInt32LE(byteOrder, 8);
  index.writeUInt32LE(formatVersion, 12);
  index.writeBigUInt64LE(sizeOf(tokens.length, shape), 16);
  for (const [i, number] of [tokens.length, ...shapeNumbers(shape)].entries()) index.writeUInt32LE(number, 24 + 4 * i);
  index.set(fingerprint, fingerprintAt);
  tokens.forEach((token, i) => {
    index.writeInt32LE(token, tokensAt + 4 * i);
  });
  indexHash(index).copy(index, indexHashAt);
  return index;
}

const indexHash = (index: Buffer): Buffer =>
  createHash("sha256").update(index.subarray(0, indexHashAt)).update(index.subarray(tokensAt)).digest();

/** All before the blocks, checked for being what was saved, in a file of the right size. */
function readIndex(path: string, fd: number, size: number, { shape, contextLength }: SessionTarget): Buffer {
  const fail = (problem: string, code?: "ERR_CRIA_UNSUPPORTED") => new CriaFileError(path, undefined, problem, code);
  const header = Buffer.alloc(tokensAt);
  const got = readAll(fd, header, 0);
  const found = header.toString("latin1", 0, Math.min(got, magic.length));
  if (found !== magic) throw fail(`must begin with "${magic}", not ${show(found)}`);
  if (got < tokensAt) throw fail(`must have a header of ${tokensAt} bytes, not end at ${got}`);
  if (header.readUInt32LE(8) !== byteOrder) {
    throw fail("must be a little-endian session, not of another byte order", "ERR_CRIA_UNSUPPORTED");
  }
  const version = header.readUInt32LE(12);
  if (version !== formatVersion) {
    const problem = `is of version ${version} of the session format; this version of cria reads ${formatVersion}`;
    throw fail(problem, "ERR_CRIA_UNSUPPORTED");
  }
  const whole = header.readBigUInt64LE(16);
  if (whole !== BigInt(size)) throw fail(`must be of ${whole} bytes, as its header says, not ${size}`);
  checkShape(path, header, shape);
  const count = header.readUInt32LE(24);
  if (count > contextLength) throw fail(`must have at most the context's ${contextLength} tokens, not ${count}`);
  const wanted = sizeOf(count, shape);
  if (wanted !== whole) throw fail(`must be of ${wanted} bytes for its ${count} tokens, not ${whole}`);

  const index = Buffer.alloc(tokensAt + 4 * count);
  const read = readAll(fd, index, 0);
  if (read < index.length) throw fail(`must keep its ${size} bytes while it is read, not end at ${read}`);
  const hash = index.subarray(indexHashAt, tokensAt);
  if (!indexHash(index).equals(hash))
    throw fail("its header and its tokens must have the checksum that it says; it is damaged");
  return index;
}

/** Its blocks fit the cache. */
function checkShape(path: string, header: Buffer, shape: CacheShape): void {
  const expected = shapeNumbers(shape);
  const found = expected.map((_, i) => header.readUInt32LE(28 + 4 * i));
  if (found.every((number, i) => number === expected[i])) return;
  const describe = ([keys, values, layers, heads, dim]: number[]) =>
    `${typeName(keys!)} keys and ${typeName(values!)} values of ${layers} layers of ${heads} heads of ${dim} dimensions`;
  throw new CriaFileError(path, "cache", `must hold ${describe(expected)}, not ${describe(found)}`);
}

const typeName = (id: number) =>
  Object.entries(weightFormats).find(([, format]) => format.id === id)?.[0] ?? `type ${id}`;

function checkModel(path: string, index: Buffer, { fingerprint }: SessionTarget): void {
  const found = index.subarray(fingerprintAt, indexHashAt);
  if (found.equals(fingerprint)) return;
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex", 0, 8);
  throw new CriaFileError(path, "model", `must be the one of fingerprint ${hex(fingerprint)}…, not ${hex(found)}…`);
}

function checkTokens(path: string, tokens: Int32Array, vocab: number): void {
  const wrong = tokens.findIndex((token) => token < 0 || token >= vocab);
  if (wrong === -1) return;
  throw new CriaFileError(path, `token ${wrong}`, `must be from 0 to ${vocab - 1}, not ${tokens[wrong]}`);
}

/** Reads the blocks to the cache, and then checks that they are what was saved with that index. */
async function restore(
  path: string,
  index: Buffer,
  blocks: Int32Array,
  shape: CacheShape,
  write: (blocks: Int32Array, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const hash = createHash("sha256");
  // The file may be another by now: it must begin as it did.
  await using reader = await SequentialReader.open(path);
  const again = Buffer.alloc(index.length);
  await reader.read(again);
  if (!again.equals(index)) throw changed(path);
  hash.update(index);
  for (const { piece, bytes } of piecesOf(blocks, shape)) {
    await reader.read(bytes);
    hash.update(bytes);
    await write(piece, bytes);
  }
  const end = Buffer.alloc(hashBytes);
  await reader.read(end);
  if (!hash.digest().equals(end)) {
    throw new CriaFileError(path, undefined, "its blocks must have the checksum that it ends with; it is damaged");
  }
}

const changed = (path: string) =>
  new CriaFileError(path, undefined, "must not change between its tokens and its blocks");

/** Reads a file front to back. */
class SequentialReader implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  #position = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<SequentialReader> {
    try {
      return new SequentialReader(path, await open(path));
    } catch (cause) {
      throw unreadable(path, undefined, cause);
    }
  }

  /** Fills `into` with the next bytes. */
  async read(into: Uint8Array): Promise<void> {
    const got = await readAllOf(this.#file, into, this.#position).catch((cause) => {
      throw unreadable(this.#path, undefined, cause);
    });
    if (got < into.length) throw changed(this.#path);
    this.#position += got;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
