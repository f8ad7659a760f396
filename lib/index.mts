/** `import` of cria: the names of index.ts, whose one implementation `require` has too. */
export type * from "./index.js";
export {
  CriaError,
  CriaFileError,
  convertModel,
  Device,
  devices,
  estimateMemory,
  loadModel,
  Program,
  quantizeModel,
  Sampler,
  Tokenizer,
  tinyModel,
} from "./index.js";
