import { matmulOp } from "./matmul.js";

export const matmulQ3K = matmulOp("matmul_q3_k", ["q3_K"]);
