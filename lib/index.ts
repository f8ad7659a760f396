export type { Adapter } from "./adapters/adapter.js";
export type { AdapterOption, AppliedAdapter } from "./adapters/options.js";
export type { PrefixOptions } from "./adapters/prefix-file.js";
export type { BeamCandidate, BeamSearchOptions } from "./beam.js";
export type { CacheSize } from "./cache-size.js";
export type { CacheOption, CacheTypes } from "./cache-types.js";
export type { ChatOptions } from "./chat.js";
export type { Conversation, SayOptions } from "./conversation.js";
export {
  type Converted,
  type ConvertOptions,
  convertModel,
  type GgufType,
  type Mixture,
  quantizeModel,
  type TargetType,
} from "./convert.js";
export {
  type AbsentDevice,
  Device,
  type DeviceInfo,
  type DeviceKind,
  type DeviceOptions,
  devices,
  type Isa,
} from "./device.js";
export { CriaError, CriaFileError, type ErrorCode } from "./errors.js";
export type { FinishReason, Generation, GenerationResult, Timings } from "./generate.js";
export type { GenerateOptions } from "./generate-options.js";
export type { InfillOptions } from "./infill.js";
export type { KvPool, KvPoolStatistics } from "./kv-pool.js";
export type { KvMoves, KvSequence } from "./kv-sequence.js";
export type { ScoredToken, ScoreOptions, TokenLogprob } from "./logprobs.js";
export { estimateMemory, type MemoryEstimate } from "./memory.js";
export { loadModel, type Model, type ModelOptions } from "./model.js";
export type { CachedBlock } from "./prefix-cache.js";
export {
  type CacheShape,
  type DecodeOptions,
  type NativeBatch,
  Program,
  type RopeOptions,
  type Value,
} from "./program.js";
export type { Speaker } from "./prompt.js";
export type { DynamicScaling, Llama3Scaling, Rope, RopeScaling, YarnScaling } from "./rope-scaling.js";
export type { Runtime, RuntimeOptions } from "./runtime.js";
export type { SampleOptions, SamplePiece, Samples } from "./samples.js";
export type { LogitBias } from "./sampling/bias.js";
export { type Distribution, Sampler, type SamplerOptions } from "./sampling/sampler.js";
export type { Scheduler } from "./scheduler.js";
export type { ChoiceOptions, ChoiceScore, Scores, ScoringRule } from "./score.js";
export type { DrawOptions, ForwardOptions, RemoveOptions, Sequence, Wanted } from "./sequence.js";
export type { SpeculateOptions } from "./speculation/options.js";
export type { SpeculationStatistics } from "./speculation/speculative-source.js";
export type { ChatMessage, ChatRole } from "./text/chat/messages.js";
export type { DecoderOptions, TokenDecoder } from "./text/decoder.js";
export type { Markers } from "./text/markers.js";
export { Tokenizer } from "./text/tokenizer.js";
export { tinyModel } from "./tiny.js";
export type { LoadedType } from "./weights/quantized.js";
export type {
  LlamaConfig,
  ModelIndex,
  TensorInfo,
  Vocabulary,
  WeightType,
  WordPattern,
} from "./weights/source.js";
export type { LoadOptions } from "./weights/store.js";
export type { WindowOptions } from "./window.js";
