import { matmulOp } from "./matmul.js";

export const matmulQ6K = matmulOp("matmul_q6_k", ["q6_K"]);
