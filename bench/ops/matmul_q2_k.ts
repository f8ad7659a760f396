import { matmulOp } from "./matmul.js";

export const matmulQ2K = matmulOp("matmul_q2_k", ["q2_K"]);
