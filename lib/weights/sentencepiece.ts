import { CriaFileError, show } from "../errors.js";
import { byteOf } from "../text/byte-pieces.js";
import { decodeUtf8 } from "./json-file.js";
import { readWhole } from "./open.js";
import { type ProtobufField, protobufFields } from "./protobuf.js";
import { pieceTypes, type Vocabulary } from "./source.js";

/** The largest in use, of 262,144 pieces, has 4.7 MB. */
const mostBytes = 64 * 2 ** 20;

/** As many as {@link Vocabulary} has elsewhere: four times the largest in use. */
const mostPieces = 2 ** 20;

/** sentencepiece's TrainerSpec.ModelType. */
const modelTypes: readonly (string | undefined)[] = [undefined, "Unigram", "BPE", "Word", "Char"];

/** What a model file says beside its pieces, with protobuf's defaults. */
interface Settings {
  modelType: number;
  unknown: number;
  bos: number;
  eos: number;
  addPrefix: boolean;
  escapesSpaces: boolean;
  spaceAsSuffix: boolean;
  normalizes: boolean;
}

/**
 * Reads a SentencePiece model of the type BPE, such as the `tokenizer.model` of LLaMA and Llama 2. The fields are those
 * of sentencepiece_model.proto.
 *
 * Its pieces are LLaMA's: BOS is put before a text, and a text is taken as it is, as LLaMA's own "identity"
 * normalisation does it; that runs of spaces become one, `remove_extra_whitespaces`, which LLaMA's models do not ask
 * for, is not done either.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that is damaged, ERR_CRIA_UNSUPPORTED for a sound one that is no BPE,
 *   or normalises texts
 */
export async function readSentencePiece(path: string): Promise<Vocabulary> {
  const fail: Fail = (problem, code) => new CriaFileError(path, undefined, problem, code);
  return parseModel(await readWhole(path, mostBytes), fail);
}

type Fail = (problem: string, code?: "ERR_CRIA_UNSUPPORTED") => CriaFileError;

function parseModel(bytes: Buffer, fail: Fail): Vocabulary {
  const pieces: string[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  const settings: Settings = {
    modelType: 1,
    unknown: 0,
    bos: 1,
    eos: 2,
    addPrefix: true,
    escapesSpaces: true,
    spaceAsSuffix: false,
    normalizes: false,
  };
  for (const { number, kind, value } of protobufFields(bytes, fail)) {
    if (kind !== "bytes") continue;
    if (number === 1) {
      if (pieces.length === mostPieces) throw fail(`must have at most ${mostPieces} pieces`);
      const { piece, score, type } = parsePiece(value, pieces.length, fail);
      pieces.push(piece);
      scores.push(score);
      types.push(type);
    }
    if (number === 2) parseTrainer(value, settings, fail);
    if (number === 3) parseNormalizer(value, settings, fail);
  }
  if (pieces.length === 0) throw fail("must be a SentencePiece model, but has no pieces");
  checkSettings(settings, fail);
  const token = (id: number) => (id >= 0 && id < pieces.length ? id : undefined);
  const bos = token(settings.bos);
  return {
    pieces,
    scores,
    types,
    bos,
    eos: token(settings.eos),
    unknown: token(settings.unknown),
    addBos: bos !== undefined,
    addSpacePrefix: settings.addPrefix,
  };
}

function parsePiece(bytes: Buffer, id: number, fail: Fail): { piece: string; score: number; type: number } {
  let piece = "";
  let score = 0;
  let type: number = pieceTypes.normal;
  for (const { number, kind, value } of protobufFields(bytes, fail)) {
    if (number === 1 && kind === "bytes") piece = decodeUtf8(value, () => fail(`its piece ${id} must be UTF-8`));
    if (number === 2 && kind === "fixed" && value.length === 4) score = value.readFloatLE();
    if (number === 3 && kind === "varint") type = Number(value);
  }
  if (Number.isNaN(score)) throw fail(`the score of its piece ${id} must be a number, not NaN`);
  const { normal: first, byte: last } = pieceTypes;
  if (type < first || type > last) throw fail(`the type of its piece ${id} must be ${first} to ${last}, not ${type}`);
  if (type === pieceTypes.byte && byteOf(piece) === undefined) {
    throw fail(`its piece ${id} must be a byte as <0x0A>, not ${show(piece)}`);
  }
  return { piece, score, type };
}

/** An int32 or a bool, which stands as a varint of 64 bits. */
const integerOf = ({ value }: ProtobufField & { kind: "varint" }) => Number(BigInt.asIntN(32, value));

function parseTrainer(bytes: Buffer, settings: Settings, fail: Fail): void {
  for (const field of protobufFields(bytes, fail)) {
    if (field.kind !== "varint") continue;
    const value = integerOf(field);
    if (field.number === 3) settings.modelType = value;
    if (field.number === 24) settings.spaceAsSuffix = value !== 0;
    if (field.number === 40) settings.unknown = value;
    if (field.number === 41) settings.bos = value;
    if (field.number === 42) settings.eos = value;
  }
}

function parseNormalizer(bytes: Buffer, settings: Settings, fail: Fail): void {
  for (const field of protobufFields(bytes, fail)) {
    if (field.kind === "bytes" && field.number === 2) settings.normalizes = field.value.length > 0;
    if (field.kind !== "varint") continue;
    if (field.number === 3) settings.addPrefix = integerOf(field) !== 0;
    if (field.number === 5) settings.escapesSpaces = integerOf(field) !== 0;
  }
}

function checkSettings({ modelType, normalizes, escapesSpaces, spaceAsSuffix }: Settings, fail: Fail): void {
  const unsupported = (problem: string) => fail(problem, "ERR_CRIA_UNSUPPORTED");
  if (modelType !== 2) throw unsupported(`its model_type must be BPE, not ${modelTypes[modelType] ?? modelType}`);
  if (normalizes) throw unsupported("its normalizer_spec must be the identity, without a precompiled_charsmap");
  if (!escapesSpaces) throw unsupported("its escape_whitespaces must be true");
  if (spaceAsSuffix) throw unsupported("its treat_whitespace_as_suffix must be false");
}
