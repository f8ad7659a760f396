import { matmulOp } from "./matmul.js";

export const matmulQ4Z = matmulOp("matmul_q4_z", ["q4_z"]);
