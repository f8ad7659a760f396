/** `import` of cria: the names of index.ts, whose one implementation `require` has too. */
export type * from "./index.js";
export {
  CriaError,
  CriaFileError,
  Device,
  devices,
  estimateMemory,
  loadModel,
  Program,
  Sampler,
  Tokenizer,
  tinyModel,
} from "./index.js";
