import { join } from "node:path";

import { show } from "../errors.js";
import type { Int4Scheme } from "./int4.js";
import { type JsonKeys, readOptionalJsonFile } from "./json-file.js";

/**
 * What a Hugging Face folder says of the 4-bit weights in it: its config.json's `quantization_config`, or AutoGPTQ's
 * `quantize_config.json`. Undefined where there is neither.
 *
 * @param has4Bit whether there are any: a `quantize_config.json` may be left of them beside weights that are floats
 * @throws CriaFileError that names the key: ERR_CRIA_UNSUPPORTED for another method or another kind of it
 */
export async function readInt4Scheme(
  folder: string,
  config: JsonKeys,
  has4Bit: boolean,
): Promise<Int4Scheme | undefined> {
  if (!config.has("quantization_config")) {
    if (!has4Bit) return undefined;
    const keys = await readOptionalJsonFile(join(folder, "quantize_config.json"));
    return keys === undefined ? undefined : gptqScheme(keys);
  }
  const keys = config.object("quantization_config");
  const method = keys.string("quant_method");
  if (method === "gptq") return gptqScheme(keys);
  if (method === "awq") return awqScheme(keys);
  throw unsupported(keys, "quant_method", '"gptq" or "awq"');
}

/** The formats of AutoGPTQ and GPTQModel (Frantar et al. 2022): the second stores zeros as they are. */
function gptqScheme(keys: JsonKeys): Int4Scheme {
  checkBits(keys);
  const format = keys.string("checkpoint_format", "gptq");
  if (format !== "gptq" && format !== "gptq_v2") throw unsupported(keys, "checkpoint_format", '"gptq" or "gptq_v2"');
  if (keys.boolean("is_marlin_format", false)) throw unsupported(keys, "is_marlin_format", "false");
  // Of GPTQModel: bits and groups that differ from module to module.
  const others = keys.object("dynamic", undefined)?.entries() ?? [];
  if (others.length > 0) throw unsupported(keys, "dynamic", "empty");
  return {
    layout: "gptq",
    groupSize: groupSizeOf(keys),
    zerosLessOne: format === "gptq",
    symmetric: keys.boolean("sym", true),
  };
}

/** That of AutoAWQ (Lin et al. 2023). */
function awqScheme(keys: JsonKeys): Int4Scheme {
  checkBits(keys);
  if (keys.string("version", "gemm").toLowerCase() !== "gemm") throw unsupported(keys, "version", '"gemm"');
  if (!keys.boolean("zero_point", true)) throw unsupported(keys, "zero_point", "true");
  return { layout: "awq", groupSize: groupSizeOf(keys), zerosLessOne: false, symmetric: false };
}

function checkBits(keys: JsonKeys): void {
  if (keys.integer("bits", 1, 32) !== 4) throw unsupported(keys, "bits", "4");
}

/** A scale is one of whole blocks of 32 weights in the kernels' layout. */
function groupSizeOf(keys: JsonKeys): number | undefined {
  const size = keys.integer("group_size", -1, 2 ** 31 - 1, -1);
  if (size === -1) return undefined;
  if (size === 0 || size % 32 !== 0) throw unsupported(keys, "group_size", "-1 or a multiple of 32");
  return size;
}

const unsupported = (keys: JsonKeys, key: string, expected: string) =>
  keys.error(key, `must be ${expected}, not ${show(keys.value(key))}`, "ERR_CRIA_UNSUPPORTED");
