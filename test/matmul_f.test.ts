import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe.each(["f32", "f16", "bf16"] as const)("matmul with %s weights", testMatmul);
