import { dirname, join } from "node:path";

import { CriaError, CriaFileError, wrongType } from "../errors.js";
import { adapterProblem, peftConfig } from "./adapter-names.js";
import { huggingFaceFolder, readHuggingFace, readHuggingFaceKeys } from "./hugging-face.js";
import { exists } from "./json-file.js";
import { readLlama, readLlamaVocabulary } from "./llama-gguf.js";
import { isLlama2c, readLlama2c, readLlama2cVocabulary } from "./llama2c.js";
import { isMeta, readMeta, readMetaVocabulary } from "./meta.js";
import { isFolder, readStart } from "./open.js";
import { magic, readPacked } from "./packed.js";
import { optionalQuantisedType, quantised } from "./quantized.js";
import { isSafetensors } from "./safetensors.js";
import type { Vocabulary } from "./source.js";
import type { LoadOptions, ModelFile } from "./store.js";
import { isTokenizerBin, readTokenizerBin } from "./tokenizer-bin.js";
import { readTokenizerFile, tokenizerFileOf } from "./tokenizer-file.js";
import { checkSize, padded } from "./vocabulary-size.js";
import { isZip } from "./zip.js";

/** A way in which people have models: what it is recognised by, and what reads it. */
interface Format {
  /** Whether it is this, which its content tells; its name never does. @throws CriaFileError where it cannot be read */
  recognises(path: string): Promise<boolean>;
  /** @param vocabulary what is used instead of its own, or of one that stands beside it and need then not be there */
  read(path: string, vocabulary?: Vocabulary): Promise<ModelFile>;
  /** The vocabulary, which may stand without a model. */
  readVocabulary(path: string): Promise<Vocabulary>;
}

const huggingFace: Format = {
  recognises: async (path) => (await huggingFaceFolder(path)) !== undefined,
  read: readHuggingFace,
  readVocabulary: async (path) => (await readHuggingFaceKeys((await huggingFaceFolder(path))!.folder)).vocabulary,
};

/** A vocabulary that stands by itself. */
const alone = ({ recognises, readVocabulary }: Omit<Format, "read">): Format => ({
  recognises,
  read: async (path) => {
    throw new CriaFileError(path, undefined, "must be a model, not a tokenizer alone");
  },
  readVocabulary,
});

const tokenizerFile = alone({
  recognises: async (path) => (await tokenizerFileOf(path)) !== undefined,
  readVocabulary: readTokenizerFile,
});

const tokenizerBin = alone({ recognises: isTokenizerBin, readVocabulary: readTokenizerBin });

const packed: Format = {
  recognises: isPacked,
  read: readPacked,
  readVocabulary: async (path) => (await readPacked(path)).vocabulary,
};

const meta: Format = {
  recognises: isMeta,
  read: readMeta,
  readVocabulary: readMetaVocabulary,
};

const llama2c: Format = {
  recognises: isLlama2c,
  read: readLlama2c,
  readVocabulary: readLlama2cVocabulary,
};

const refuse = (recognises: Format["recognises"], problem: string): Format => {
  const refused = async (path: string): Promise<never> => {
    throw new CriaFileError(path, undefined, problem);
  };
  return { recognises, read: refused, readVocabulary: refused };
};

/** What PEFT saved: a folder, or the weights in it. */
const peftAdapter: Format = {
  async recognises(path) {
    if (await isFolder(path)) return exists(join(path, peftConfig));
    const weights = (await isSafetensors(path)) || (await isZip(path));
    return weights && (await exists(join(dirname(path), peftConfig)));
  },
  async read(path) {
    throw new CriaFileError(path, undefined, adapterProblem, "ERR_CRIA_UNSUPPORTED");
  },
  async readVocabulary(path) {
    throw new CriaFileError(path, undefined, "is an adapter: name a tokenizer's file", "ERR_CRIA_UNSUPPORTED");
  },
};

/** A folder that is no model's. */
const otherFolder = refuse(isFolder, "must be a model's file, or a folder with a params.json or a config.json");

/** Weights of Hugging Face's without the rest of the folder. */
const loneSafetensors = refuse(isSafetensors, "must have a config.json beside it");

/** What torch.save wrote of others than Meta. */
const otherTorch = refuse(
  isZip,
  "must be a model, not a zip archive; weights that torch.save wrote, but for Meta's, must be saved as safetensors first",
);

/** Recognises nothing: what is nothing else is refused as a GGUF file. */
const gguf: Format = {
  recognises: async () => true,
  read: readLlama,
  readVocabulary: readLlamaVocabulary,
};

/** In the order in which they are tried. */
const formats: readonly Format[] = [
  meta,
  huggingFace,
  peftAdapter,
  otherFolder,
  loneSafetensors,
  otherTorch,
  packed,
  llama2c,
  tokenizerFile,
  tokenizerBin,
  gguf,
];

/**
 * Reads the index of a model, whatever it is stored as.
 *
 * @param options.tokenizer the file whose vocabulary it gets
 * @param options.quantize what its float matrices become while they are loaded
 * @throws CriaFileError as what reads the format, where that vocabulary is not of the model's size, and as
 *   {@link quantised}
 */
export async function readModel(
  path: string,
  { tokenizer, quantize }: Pick<LoadOptions, "tokenizer" | "quantize"> = {},
): Promise<ModelFile> {
  const type = optionalQuantisedType(quantize);
  const model = await readStored(path, tokenizer);
  return type === undefined ? model : quantised(model, type);
}

async function readStored(path: string, tokenizer: string | undefined): Promise<ModelFile> {
  const format = await formatOf(path);
  if (tokenizer === undefined) return format.read(path);
  if (typeof tokenizer !== "string") throw wrongType("tokenizer", "a string", tokenizer);
  const given = await formatOf(tokenizer);
  const read = await given.readVocabulary(tokenizer);
  const model = await format.read(path, read);
  const vocab = model.config.vocab;
  // A tokenizer's own file may have fewer pieces than the model has rows.
  const sized = given === tokenizerFile ? padded(read, vocab) : read;
  checkSize(tokenizer, sized, vocab);
  const vocabulary = sized.eos === undefined ? await withEnds(sized, () => format.readVocabulary(path)) : sized;
  return { ...model, vocabulary, files: [...(model.files ?? []), tokenizer] };
}

/**
 * What begins and ends a text, which a `tokenizer.json` does not say, as the model's own vocabulary has it, if it has
 * one.
 */
async function withEnds(vocabulary: Vocabulary, readOwn: () => Promise<Vocabulary>): Promise<Vocabulary> {
  const own = await readOwn().catch((error: unknown) => {
    if (error instanceof CriaError) return undefined;
    throw error;
  });
  if (own === undefined || own.pieces.length !== vocabulary.pieces.length) return vocabulary;
  const { eos, ends } = own;
  return vocabulary.bos === undefined
    ? { ...vocabulary, eos, ends, bos: own.bos, addBos: own.addBos }
    : { ...vocabulary, eos, ends };
}

/**
 * Reads the vocabulary of a model, or of a file that has one and no model.
 *
 * @throws CriaFileError as {@link readModel}
 */
export async function readVocabulary(path: string): Promise<Vocabulary> {
  return (await formatOf(path)).readVocabulary(path);
}

async function formatOf(path: string): Promise<Format> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  for (const format of formats) {
    if (await format.recognises(path)) return format;
  }
  return gguf;
}

/** Whether a file is one that `cria pack` made. @throws CriaFileError where it cannot be read */
export async function isPacked(path: string): Promise<boolean> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  return (await readStart(path, magic.length)).toString("latin1") === magic;
}
