import { matmulOp } from "./matmul.js";

export const matmulQ4K = matmulOp("matmul_q4_k", ["q4_K"]);
