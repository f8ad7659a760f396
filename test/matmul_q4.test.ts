import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q4_0 weights", () => testMatmul("q4_0"));
