/** `import` of cria/kernels: the names of kernels.ts, whose one implementation `require` has too. */
export type * from "./kernels.js";
export {
  add,
  attention,
  embed,
  matmul,
  PackedWeights,
  packWeights,
  quantize,
  rmsNorm,
  rope,
  swiGlu,
} from "./kernels.js";
