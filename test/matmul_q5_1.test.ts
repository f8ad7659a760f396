import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q5_1 weights", () => testMatmul("q5_1"));
