/**
 * LLaMA as Meta gives it out: a folder with `params.json` and `consolidated.00.pth`, `consolidated.01.pth` and so on,
 * one for each of the 1, 2, 4 or 8 GPUs that it was trained on in parallel, or one `consolidated.pth`;
 * `tokenizer.model` stands in it, or in the folder that it is in. Every part has every tensor (fairscale's model
 * parallelism):
 *
 *     wq wk wv w1 w3 output     some of the rows
 *     wo w2                     some of the columns
 *     tok_embeddings            some of the columns; of Llama 3, some of the rows
 *     norms                     all of it, the same in each part
 *
 * Queries and keys turn in adjacent pairs, as in GGUF. `rope.freqs`, which old parts hold, follows from `rope_theta`.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { CriaError, CriaFileError } from "../errors.js";
import { type JoinedTensor, joinedSource } from "./joined.js";
import { type JsonKeys, readJsonFile } from "./json-file.js";
import { llamaTensors } from "./llama-tensors.js";
import { readParams } from "./meta-params.js";
import { isFolder, unreadable } from "./open.js";
import { readSentencePiece } from "./sentencepiece.js";
import type { LlamaConfig, Vocabulary } from "./source.js";
import type { ModelFile } from "./store.js";
import { sameShape, showShape } from "./stored-tensor.js";
import { readTiktoken } from "./tiktoken.js";
import { tokenizerFileOf } from "./tokenizer-file.js";
import { readTorch, type TorchTensor } from "./torch.js";
import { checkSize } from "./vocabulary-size.js";
import { isZip } from "./zip.js";

const paramsName = "params.json";
const tokenizerName = "tokenizer.model";
const soleName = "consolidated.pth";
const partName = (i: number) => `consolidated.${String(i).padStart(2, "0")}.pth`;
const isPartName = (name: string) => /^consolidated\.(\d\d\.)?pth$/.test(name);

/** How many parts Meta's models have. */
const partCounts: readonly number[] = [1, 2, 4, 8];

/** A longer JSON file is no `params.json`. */
const mostParamsBytes = 65_536;

/** What a part has of a tensor. */
type Cut = "rows" | "columns" | "either" | "whole";

/** Meta's names with those of GGUF: in a layer, and outside of them. */
const layerTensors: readonly (readonly [meta: string, gguf: string, cut: Cut])[] = [
  ["attention_norm", "attn_norm", "whole"],
  ["attention.wq", "attn_q", "rows"],
  ["attention.wk", "attn_k", "rows"],
  ["attention.wv", "attn_v", "rows"],
  ["attention.wo", "attn_output", "columns"],
  ["ffn_norm", "ffn_norm", "whole"],
  ["feed_forward.w1", "ffn_gate", "rows"],
  ["feed_forward.w3", "ffn_up", "rows"],
  ["feed_forward.w2", "ffn_down", "columns"],
];
const outerTensors: typeof layerTensors = [
  ["tok_embeddings", "token_embd", "either"],
  ["norm", "output_norm", "whole"],
  ["output", "output", "rows"],
];

/** One of a model's files, its tensors under Meta's names. */
interface Part {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TorchTensor>;
}

/**
 * Whether a path is such a folder, its `params.json`, or a zip archive, such as torch.save writes, of its parts' names.
 */
export async function isMeta(path: string): Promise<boolean> {
  const status = await stat(path).catch((error: unknown) => {
    throw unreadable(path, undefined, error);
  });
  if (status.isDirectory()) {
    const names = await namesIn(path);
    // Folders of Hugging Face may have a params.json too.
    return names.includes(paramsName) && (names.some(isPartName) || !names.includes("config.json"));
  }
  if (!status.isFile() || status.size === 0) return false;
  if (await isZip(path)) {
    return isPartName(basename(path)) || (await namesIn(dirname(path))).includes(paramsName);
  }
  return status.size <= mostParamsBytes && (await holdsParams(path));
}

/** Whether a file is JSON with the keys of a `params.json`. */
async function holdsParams(path: string): Promise<boolean> {
  try {
    const params = await readJsonFile(path);
    return params.value("dim") !== undefined && params.value("n_layers") !== undefined;
  } catch (error) {
    if (error instanceof CriaError) return false;
    throw error;
  }
}

/**
 * Reads the index of a model of Meta's.
 *
 * @param path the folder, its `params.json`, or one of its parts
 * @throws CriaFileError ERR_CRIA_FILE for a file that is missing or damaged, or parts that do not fit each other,
 *   ERR_CRIA_UNSUPPORTED for a sound model that asks for what cria's forward pass does not do
 */
export async function readMeta(path: string, vocabulary?: Vocabulary): Promise<ModelFile> {
  const folder = await folderOf(path);
  const params = await readJsonFile(join(folder, paramsName), undefined, mostParamsBytes);
  const names = partNames(folder, await namesIn(folder));
  const parts: Part[] = [];
  for (const [i, name] of names.entries()) {
    const part = join(folder, name);
    parts.push({ path: part, tensors: await readTorch(part, `part ${i + 1} of ${names.length}`) });
  }
  checkCount(folder, params, parts);
  const { config, ...own } = await configOf(folder, params, parts, vocabulary);
  const joined = joinParts(parts, config);
  return {
    path: folder,
    format: `Meta's checkpoint in ${parts.length} ${parts.length === 1 ? "part" : "parts"}`,
    name: basename(resolve(folder)),
    config,
    ...own,
    tensors: new Map([...joined].map(([name, { info }]) => [name, info])),
    mappable: false,
    source: () => joinedSource(joined),
  };
}

/** The vocabulary of a model of Meta's. @throws CriaFileError where there is none, or it is damaged */
export const readMetaVocabulary = async (path: string): Promise<Vocabulary> =>
  readTokenizerModel(await tokenizerOf(await folderOf(path)));

/** SentencePiece's, or that of Llama 3. */
const readTokenizerModel = async (path: string): Promise<Vocabulary> =>
  (await tokenizerFileOf(path)) === "tiktoken" ? readTiktoken(path) : readSentencePiece(path);

async function folderOf(path: string): Promise<string> {
  return (await isFolder(path)) ? path : dirname(path);
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: unknown) => {
    throw unreadable(folder, undefined, error);
  });
}

/** The tokenizer in the folder, or in the one around it. */
async function tokenizerOf(folder: string): Promise<string> {
  for (const place of [folder, join(folder, "..")]) {
    if ((await namesIn(place)).includes(tokenizerName)) return join(place, tokenizerName);
  }
  const problem = "must be given, or stand in the folder or in the one around it as tokenizer.model";
  throw new CriaFileError(folder, "tokenizer", problem);
}

/** The names of a folder's parts, in their order. @throws CriaFileError where there is none, or one is missing */
function partNames(folder: string, names: readonly string[]): string[] {
  const found = names.filter(isPartName).sort();
  if (found.length === 0) {
    throw new CriaFileError(join(folder, partName(0)), undefined, `must stand beside ${paramsName}`);
  }
  if (found.includes(soleName)) {
    if (found.length === 1) return found;
    throw new CriaFileError(folder, undefined, `must have ${soleName} or numbered parts, not also ${found[0]}`);
  }
  const last = found.at(-1)!;
  const gap = found.findIndex((name, i) => name !== partName(i));
  if (gap !== -1) throw new CriaFileError(join(folder, partName(gap)), undefined, `must stand beside ${last}`);
  if (partCounts.includes(found.length)) return found;
  const problem = `must stand beside ${last}: a model has 1, 2, 4 or 8 parts, not ${found.length}`;
  throw new CriaFileError(join(folder, partName(found.length)), undefined, problem);
}

/** Checks that no part is missing at the end: how many there are, the first one's share of wq says. */
function checkCount(folder: string, params: JsonKeys, [first, ...rest]: readonly Part[]): void {
  const rows = first!.tensors.get("layers.0.attention.wq.weight")?.shape[0];
  const count = Number(params.value("dim")) / (rows ?? Number.NaN);
  if (!partCounts.includes(count) || count <= 1 + rest.length) return;
  const problem = `must stand beside ${basename(first!.path)}, which by its shapes is one of ${count} parts`;
  throw new CriaFileError(join(folder, partName(1 + rest.length)), undefined, problem);
}

async function configOf(
  folder: string,
  params: JsonKeys,
  parts: readonly Part[],
  given: Vocabulary | undefined,
): Promise<Pick<ModelFile, "config" | "vocabulary" | "files">> {
  const w1 = parts[0]!.tensors.get("layers.0.feed_forward.w1.weight");
  if (w1 === undefined) throw missing(parts[0]!.path, "layers.0.feed_forward.w1.weight");
  const ffn = w1.shape[0]! * parts.length;
  if (given !== undefined)
    return { config: readParams(params, { ffn, pieces: given.pieces.length }), vocabulary: given };
  const tokenizer = await tokenizerOf(folder);
  const vocabulary = await readTokenizerModel(tokenizer);
  const config = readParams(params, { ffn, pieces: vocabulary.pieces.length });
  checkSize(tokenizer, vocabulary, config.vocab);
  return { config, vocabulary, files: [tokenizer] };
}

/**
 * Every tensor of the forward pass, by GGUF's names.
 *
 * @throws CriaFileError where the parts do not make them, or more
 */
function joinParts(parts: readonly Part[], config: LlamaConfig): Map<string, JoinedTensor> {
  const tied = !parts.some(({ tensors }) => tensors.has("output.weight"));
  const names = metaNames(config.layers);
  const joined = new Map<string, JoinedTensor>();
  for (const { name, rows, cols } of llamaTensors(config, tied)) {
    const { meta, cut } = names.get(name)!;
    const found = parts.map((part) => part.tensors.get(meta) ?? fail(missing(part.path, meta)));
    const shape = cut === "whole" ? [cols] : [rows, cols];
    const side = sideOf(found, shape, cut);
    const { type } = found[0]!;
    joined.set(name, { info: { name, type, rows, cols }, cut: side, parts: cut === "whole" ? [found[0]!] : found });
  }
  refuseOthers(parts, new Set([...joined.keys()].map((name) => names.get(name)!.meta)));
  return joined;
}

/** By GGUF's names Meta's. */
function metaNames(layers: number): Map<string, { meta: string; cut: Cut }> {
  const names = new Map<string, { meta: string; cut: Cut }>();
  for (const [meta, gguf, cut] of outerTensors) names.set(`${gguf}.weight`, { meta: `${meta}.weight`, cut });
  for (let n = 0; n < layers; n++) {
    for (const [meta, gguf, cut] of layerTensors) {
      names.set(`blk.${n}.${gguf}.weight`, { meta: `layers.${n}.${meta}.weight`, cut });
    }
  }
  return names;
}

/** Along which side a tensor of this shape was cut into these parts. */
function sideOf(parts: readonly TorchTensor[], shape: readonly number[], cut: Cut): "rows" | "columns" {
  const count = parts.length;
  const cuts: Record<"rows" | "columns", number[]> =
    cut === "whole"
      ? { rows: [...shape], columns: [] }
      : { rows: [shape[0]! / count, shape[1]!], columns: [shape[0]!, shape[1]! / count] };
  const allowed =
    cut === "either" ? (["columns", "rows"] as const) : ([cut === "columns" ? "columns" : "rows"] as const);
  const [first] = parts as [TorchTensor];
  const side = allowed.find((side) => sameShape(first.shape, cuts[side])) ?? allowed[0];
  for (const part of parts) {
    const wanted = showShape(cuts[side]);
    const whole = count === 1 || cut === "whole" ? "" : `, one of ${count} parts of ${showShape(shape)}`;
    if (!sameShape(part.shape, cuts[side])) {
      throw new CriaFileError(part.file, part.name, `must be of shape ${wanted}${whole}, not ${showShape(part.shape)}`);
    }
    if (part.type !== first.type) {
      throw new CriaFileError(
        part.file,
        part.name,
        `must be of type ${first.type}, as in ${first.file}, not ${part.type}`,
      );
    }
  }
  return side;
}

function refuseOthers(parts: readonly Part[], known: ReadonlySet<string>): void {
  for (const { path, tensors } of parts) {
    const other = [...tensors.keys()].find((name) => !known.has(name) && !/(^|\.)rope\.freqs$/.test(name));
    if (other === undefined) continue;
    throw new CriaFileError(path, other, "is not a tensor of the LLaMA that cria computes", "ERR_CRIA_UNSUPPORTED");
  }
}

const missing = (path: string, name: string) =>
  new CriaFileError(path, name, "must be among the tensors, but is missing");

function fail(error: Error): never {
  throw error;
}
