import { matmulOp } from "./matmul.js";

export const matmulQ5K = matmulOp("matmul_q5_k", ["q5_K"]);
