import { matmulOp } from "./matmul.js";

export const matmulIq4Nl = matmulOp("matmul_iq4_nl", ["iq4_nl"]);
