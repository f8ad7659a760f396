/** One run of the program: what it reads of each sequence, and what becomes of its logits. */
import type { KvMoves, KvSequence } from "./kv-sequence.js";
import type { NativeBatch } from "./native.js";
import type { Wanted } from "./sequence.js";

/** Tokens that are to be read, some in a step. */
export interface Reading {
  readonly kv: KvSequence;
  readonly tokens: Int32Array; // all of the sequence's, from its start
  readonly from: number; // the first whose logits may be wanted
  readonly wanted: Wanted;
  /** Those wanted so far; a step's own array where it gives all of them. */
  logits: Float32Array | undefined;
}

/** What a step reads of a reading: `count` tokens after the `past` that its cache holds. */
export interface Part<R extends Reading = Reading> {
  readonly job: R;
  /** As it was planned: a sequence whose job is aborted may be truncated, or freed, while the run goes on. */
  readonly past: number;
  readonly count: number;
  readonly moves: KvMoves | undefined;
}

export const remaining = ({ kv, tokens }: Reading): number => tokens.length - kv.length;

/**
 * The parts with the logits that the step gave them, all of which are wanted; `row` is the first one's in the reading.
 */
export function* logitsOfParts<R extends Reading>(
  parts: readonly Part<R>[],
  logits: Float32Array,
  vocab: number,
): Generator<{ part: Part<R>; rows: Float32Array; row: number }> {
  let at = 0;
  for (const part of parts) {
    const { job, past, count } = part;
    const [first, end] = wantedRows(job, past, count);
    const rows = logits.subarray(at * vocab, (at + end - first) * vocab);
    at += end - first;
    yield { part, rows, row: job.wanted === "last" ? 0 : past + first - job.from };
  }
}

/** Keeps rows of a step's logits as a reading's from `row` on: without a copy where they are all of both. */
export function keepLogits(job: Reading, rows: Float32Array, step: Float32Array, row: number, vocab: number): void {
  const all = (job.wanted === "all" ? job.tokens.length - job.from : 1) * vocab;
  if (rows.length === step.length && rows.length === all) {
    job.logits = step;
    return;
  }
  job.logits ??= new Float32Array(all);
  job.logits.set(rows, row * vocab);
}

/** Of the `count` tokens of a reading after `past`, [first, end) are those whose logits are wanted. */
function wantedRows({ tokens, from, wanted }: Reading, past: number, count: number): [first: number, end: number] {
  if (wanted === "all") return [Math.min(count, Math.max(0, from - past)), count];
  return wanted === "last" && past + count === tokens.length ? [count - 1, count] : [0, 0];
}

export function batchOf(parts: readonly Part[]): NativeBatch {
  const total = parts.reduce((sum, { count }) => sum + count, 0);
  const tokens = new Int32Array(total);
  const positions = new Int32Array(total);
  const outputs: number[] = [];
  let at = 0;
  for (const { job, past, count } of parts) {
    tokens.set(job.tokens.subarray(past, past + count), at);
    for (let i = 0; i < count; i++) positions[at + i] = past + i;
    const [first, end] = wantedRows(job, past, count);
    for (let i = first; i < end; i++) outputs.push(at + i);
    at += count;
  }
  return {
    tokens,
    positions,
    lengths: Int32Array.from(parts, ({ count }) => count),
    pasts: Int32Array.from(parts, ({ past }) => past),
    blockCounts: Int32Array.from(parts, ({ job }) => job.kv.blockTable.length),
    blocks: Int32Array.from(parts.flatMap(({ job }) => job.kv.blockTable)),
    outputs: Int32Array.from(outputs),
  };
}
