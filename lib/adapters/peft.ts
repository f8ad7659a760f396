import { join } from "node:path";

import { CriaFileError, show } from "../errors.js";
import { peftConfig } from "../weights/adapter-names.js";
import { ggufName } from "../weights/hugging-face.js";
import { exists, type JsonKeys, readJsonFile } from "../weights/json-file.js";
import type { FileTensor } from "../weights/source.js";
import { type LoraFile, type LoraPair, mostRank, rankOf, turned, upright } from "./lora-file.js";
import { matrixOf, type NamedTensor, readTensors } from "./tensors.js";

/** What its weights stand in, the first that is there: torch.save wrote them before there were safetensors. */
const weightsNames = ["adapter_model.safetensors", "adapter_model.bin"] as const;

/**
 * Reads the index of a LoRA adapter that Hugging Face's PEFT saved: a folder of `adapter_config.json` and
 * `adapter_model.safetensors`, or `adapter_model.bin`, which torch.save wrote. For a module
 * `model.layers.0.self_attn.q_proj` of the model that has a
 * `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, [rank, inputs], and a `…lora_B.weight`,
 * [outputs, rank]. Of the embedding `lora_embedding_A` is [rank, vocabulary] and `lora_embedding_B` [dim, rank].
 *
 * @throws CriaFileError ERR_CRIA_FILE for a folder that is damaged or lacks something, ERR_CRIA_UNSUPPORTED for another
 *   kind of adapter, or one that changes more than matrices by their low-rank products
 */
export async function readPeft(folder: string): Promise<LoraFile> {
  const scaleOf = readConfig(await readJsonFile(join(folder, peftConfig)));
  const path = await weightsOf(folder);
  const pairs = readPairs(path, await readTensors(path), scaleOf);
  return { kind: "lora", path: folder, format: "PEFT", pairing: "halves", pairs };
}

async function weightsOf(folder: string): Promise<string> {
  const [wanted, ...others] = weightsNames.map((name) => join(folder, name));
  for (const path of [wanted!, ...others]) {
    if (await exists(path)) return path;
  }
  return wanted!;
}

/** A module's scale, of the rank that its matrices have. */
type ScaleOf = (module: string, pair: Pick<LoraPair, "a" | "b">) => number;

function readConfig(config: JsonKeys): ScaleOf {
  const type = config.string("peft_type");
  if (type !== "LORA") throw config.error("peft_type", `must be "LORA", not ${show(type)}`, "ERR_CRIA_UNSUPPORTED");
  refuseMore(config);
  const rank = config.integer("r", 1, mostRank);
  const alpha = config.float("lora_alpha", "a finite number", Number.isFinite);
  const stabilised = config.boolean("use_rslora", false); // Kalajdzievski 2023
  const ranks = patterns(config, "rank_pattern", (keys, key) => keys.integer(key, 1, mostRank));
  const alphas = patterns(config, "alpha_pattern", (keys, key) => keys.float(key, "a finite number", Number.isFinite));
  return (module, pair) => {
    const [found, wanted] = [rankOf(pair), ranks(module) ?? rank];
    if (found !== wanted) {
      const { file, name } = pair.a.tensor;
      throw new CriaFileError(file, name, `must be of rank ${wanted}, as ${peftConfig} says, not ${found}`);
    }
    return (alphas(module) ?? alpha) / (stabilised ? Math.sqrt(wanted) : wanted);
  };
}

/** What would change the model by more, or otherwise, than W + scale · B A. */
function refuseMore(config: JsonKeys): void {
  for (const key of ["fan_in_fan_out", "use_dora", "use_qalora", "lora_bias"]) {
    if (config.boolean(key, false)) throw config.error(key, "must be false, not true", "ERR_CRIA_UNSUPPORTED");
  }
  refuseOtherBase(config);
  const bias = config.string("bias", "none");
  if (bias !== "none") throw config.error("bias", `must be "none", not ${show(bias)}`, "ERR_CRIA_UNSUPPORTED");
  for (const key of ["modules_to_save", "layer_replication", "alora_invocation_tokens"]) {
    const list = config.array(key, []);
    if (list.length === 0) continue;
    throw config.error(key, `must be empty, not of ${list.length}, the first ${show(list[0])}`, "ERR_CRIA_UNSUPPORTED");
  }
}

/** Initialisations by a name that leave the base as it is. */
const initialisations: readonly string[] = ["gaussian", "eva", "orthogonal"];

/**
 * What begins with PiSSA, OLoRA, CorDA or LoftQ is beside another base than the model's: W less the product that it
 * began with, or a quantised one. PEFT says `true` of an adapter that it converted to the model's own.
 */
function refuseOtherBase(config: JsonKeys): void {
  const key = "init_lora_weights";
  if (typeof config.value(key) === "boolean") return;
  const name = config.string(key, undefined);
  if (name === undefined || initialisations.includes(name)) return;
  const known = initialisations.map((each) => show(each)).join(", ");
  throw config.error(key, `must be true, false, ${known}, not ${show(name)}`, "ERR_CRIA_UNSUPPORTED");
}

/**
 * What a key of the configuration says of a module: the value of the first pattern that its name matches. A pattern is
 * a name, or what a name ends with from a point on; with "^" before it, it is the whole name. Those that are other
 * regular expressions, as PEFT takes them, are refused: a hostile one may take for ever.
 */
function patterns(
  config: JsonKeys,
  key: string,
  read: (keys: JsonKeys, pattern: string) => number,
): (module: string) => number | undefined {
  const keys = config.object(key, undefined);
  if (keys === undefined) return () => undefined;
  const known = keys.entries().map(([pattern]) => {
    const [, whole, name] = /^(\^?)((?:\w|-|\\?\.)+)\$?$/.exec(pattern) ?? [];
    if (name === undefined)
      throw keys.error(pattern, "must be the name of a module, or its end", "ERR_CRIA_UNSUPPORTED");
    return { whole: whole !== "", name: name.replaceAll("\\.", "."), value: read(keys, pattern) };
  });
  return (module) => known.find(({ whole, name }) => module === name || (!whole && module.endsWith(`.${name}`)))?.value;
}

/** The half of a pair that a tensor is, and of which module. */
interface Half {
  readonly module: string;
  readonly half: "A" | "B";
  readonly target: string;
}

function readPairs(path: string, tensors: readonly NamedTensor[], scaleOf: ScaleOf): LoraPair[] {
  const halves = new Map<string, Partial<Record<Half["half"], FileTensor>> & Pick<Half, "target">>();
  for (const tensor of tensors) {
    const { module, half, target } = halfOf(tensor);
    halves.set(module, { ...halves.get(module), target, [half]: matrixOf(tensor) });
  }
  return [...halves].map(([module, { target, A, B }]) => {
    if (A === undefined || B === undefined) {
      const [there, missing] = A === undefined ? [B!, "A"] : [A, "B"];
      throw new CriaFileError(path, there.name, `must stand beside its lora_${missing}, which is missing`);
    }
    const pair = target === "token_embd.weight" ? { a: turned(B), b: turned(A) } : { a: upright(A), b: upright(B) };
    return { target, ...pair, scale: scaleOf(module, pair) };
  });
}

/** @throws CriaFileError where it is none of a matrix that cria computes with */
function halfOf({ name, file }: NamedTensor): Half {
  const [, module, half, embedding] =
    /^base_model\.model\.(.+)\.lora_(?:([AB])\.weight|embedding_([AB]))$/s.exec(name) ?? [];
  const target = module === undefined ? undefined : targetOf(module);
  // Only the embedding is looked up and not multiplied by.
  if (target === undefined || (embedding !== undefined) !== (target === "token_embd.weight")) {
    throw new CriaFileError(file, name, "is not a tensor of a LoRA that cria applies", "ERR_CRIA_UNSUPPORTED");
  }
  return { module: module!, half: (half ?? embedding) as Half["half"], target };
}

/** The matrix of a module, which is a module of the model that has weights. */
const targetOf = (module: string): string | undefined => ggufName(`${module}.weight`);
