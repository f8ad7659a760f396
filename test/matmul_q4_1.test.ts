import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q4_1 weights", () => testMatmul("q4_1"));
