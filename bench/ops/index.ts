import { add } from "./add.js";
import { attentionOp } from "./attention.js";
import { embed } from "./embed.js";
import { matmulF } from "./matmul_f.js";
import { matmulQ4 } from "./matmul_q4.js";
import { matmulQ8 } from "./matmul_q8.js";
import type { Op } from "./op.js";
import { quantize } from "./quantize.js";
import { rmsnorm } from "./rmsnorm.js";
import { rope } from "./rope.js";
import { swiglu } from "./swiglu.js";

const all: readonly Op[] = [matmulQ4, matmulQ8, matmulF, attentionOp, rmsnorm, quantize, rope, swiglu, add, embed];

/** Every op by its name. */
export const ops: Readonly<Record<string, Op>> = Object.fromEntries(all.map((op) => [op.name, op]));
