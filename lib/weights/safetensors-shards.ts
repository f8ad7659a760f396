import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";

import { CriaFileError, show } from "../errors.js";
import { type JsonKeys, readJsonFile, readOptionalJsonFile } from "./json-file.js";
import { unreadable } from "./open.js";
import { readSafetensors, type Safetensors, type SafetensorsTensor } from "./safetensors.js";

/** What tells of a model's shards which tensor stands in which. */
const indexName = "model.safetensors.index.json";

/** The name of a model that is one file. */
const soleName = "model.safetensors";

/**
 * Reads the headers of the safetensors files of a folder: the shards that its `model.safetensors.index.json` lists, or
 * its `model.safetensors`, or else the only file of that kind.
 *
 * @throws CriaFileError as {@link readSafetensors}, and where the folder has no such file, or several without an index,
 *   a shard is missing or named by a path, or a tensor does not stand where the index says, or stands twice
 */
export async function readSafetensorsFolder(folder: string): Promise<Safetensors> {
  const names = await namesOf(folder);
  if (names.includes(indexName)) return readShards(folder, await readJsonFile(join(folder, indexName)));
  return readSafetensors(join(folder, soleFile(folder, names)));
}

/**
 * The same, where one of the folder's files may have been named: it is read alone, unless the index lists it as a
 * shard.
 *
 * @throws CriaFileError as {@link readSafetensorsFolder}
 */
export async function readSafetensorsModel(folder: string, file?: string): Promise<Safetensors> {
  if (file === undefined) return readSafetensorsFolder(folder);
  const index = await readOptionalJsonFile(join(folder, indexName));
  const listed = index !== undefined && [...readWeightMap(index).values()].includes(basename(file));
  return listed ? readShards(folder, index) : readSafetensors(file);
}

async function namesOf(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    throw unreadable(folder, undefined, error);
  }
}

function soleFile(folder: string, names: readonly string[]): string {
  const all = names.filter((name) => name.endsWith(".safetensors"));
  if (all.includes(soleName)) return soleName;
  if (all.length === 1) return all[0]!;
  const found = all.length > 1 ? `${all.length} others` : otherWeights(names);
  throw new CriaFileError(folder, undefined, `must have a ${soleName}, or a ${indexName}, but has ${found}`);
}

/** What stands in a folder instead of safetensors. */
function otherWeights(names: readonly string[]): string {
  const pickle = names.find((name) => /^pytorch_model.*\.bin$/.test(name));
  return pickle === undefined ? "none" : `${pickle}, which is a pickle and must be saved as safetensors first`;
}

async function readShards(folder: string, index: JsonKeys): Promise<Safetensors> {
  const map = readWeightMap(index);
  const shards = new Map<string, Safetensors>();
  for (const name of [...new Set(map.values())].sort()) {
    shards.set(name, await readSafetensors(join(folder, name), `a shard that ${indexName} lists`));
  }
  for (const [tensor, shard] of map) {
    if (shards.get(shard)!.tensors.has(tensor)) continue;
    throw new CriaFileError(join(folder, shard), tensor, `must stand in this shard, as ${indexName} says`);
  }
  const all = [...shards.values()];
  return {
    files: all.flatMap(({ files }) => files),
    metadata: all[0]!.metadata,
    tensors: joined(all),
  };
}

/** By each tensor's name that of its shard, which is a file's in the same folder. */
function readWeightMap(index: JsonKeys): Map<string, string> {
  const map = new Map<string, string>();
  const weights = index.object("weight_map");
  for (const [tensor, shard] of weights.entries()) {
    if (typeof shard !== "string") throw weights.error(tensor, `must be a shard's name, not ${show(shard)}`);
    if (!isPlainName(shard))
      throw weights.error(tensor, `must be the name of a file of the folder, not ${show(shard)}`);
    map.set(tensor, shard);
  }
  if (map.size === 0) throw index.error("weight_map", "must list at least one tensor");
  return map;
}

/** Whether a name stays in its folder, on any system. */
const isPlainName = (name: string) => name !== "" && name !== "." && name !== ".." && !/[/\\\0]/.test(name);

function joined(shards: readonly Safetensors[]): Map<string, SafetensorsTensor> {
  const tensors = new Map<string, SafetensorsTensor>();
  for (const tensor of shards.flatMap((shard) => [...shard.tensors.values()])) {
    const other = tensors.get(tensor.name);
    if (other !== undefined) throw new CriaFileError(tensor.file, tensor.name, `stands in ${other.file} too`);
    tensors.set(tensor.name, tensor);
  }
  return tensors;
}
