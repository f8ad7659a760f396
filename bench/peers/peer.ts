/** Engines that are measured beside cria, on the same file and as many threads. */

import type { CacheTypes } from "../../lib/cache-types.js";
import { outOfRange } from "../../lib/errors.js";
import { findLlamaBench } from "./llama-bench.js";
import { findNodeLlamaCpp } from "./node-llama-cpp.js";

/** Tokens a second in one round. */
export interface Rates {
  prefill: number;
  decode: number;
}

/** What can be measured round by round, in turn with others. While it is not asked, it computes nothing. */
export interface Contender {
  round(): Promise<Rates>;
}

export interface Peer extends Contender, AsyncDisposable {
  /** Its name and version. */
  readonly by: string;
  /** Of its builds, the one that runs. */
  readonly isa: string;
  /** How it loaded the model, where it did so once. */
  readonly loaded?: { readonly seconds: number; readonly residentBytes: number };
}

/** What a peer is to run. */
export interface PeerWork {
  /** A GGUF file. */
  model: string;
  threads: number;
  cache: CacheTypes;
  /** The ids that it reads: as a prompt its first `prompt`, to decode its first `context` and then `gen` one by one. */
  tokens: Int32Array;
  prompt: number;
  context: number;
  gen: number;
  /** Ends it. */
  signal?: AbortSignal;
}

/** Starts a peer that was found, and has it load the model. */
export type OpenPeer = (work: PeerWork) => Promise<Peer>;

/**
 * Finds a peer, before anything is measured.
 *
 * @param spec "node-llama-cpp", or "llama-bench:" and the path of that program
 * @param folder where node-llama-cpp is looked for, and in the folders above
 * @throws RangeError for another peer
 * @throws CriaError ERR_CRIA_UNSUPPORTED where node-llama-cpp is not installed, ERR_CRIA_FILE where the program is not
 *   llama-bench
 */
export async function findPeer(spec: string, folder: string): Promise<OpenPeer> {
  const program = /^llama-bench:(.+)$/s.exec(spec)?.[1];
  if (program !== undefined) return findLlamaBench(program);
  if (spec === "node-llama-cpp") return findNodeLlamaCpp(folder);
  throw outOfRange("peer", "node-llama-cpp or llama-bench:PATH", spec);
}
