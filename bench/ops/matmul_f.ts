import { matmulOp } from "./matmul.js";

export const matmulF = matmulOp("matmul_f", ["f16", "bf16", "f32"]);
