import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q8_0 weights", () => testMatmul("q8_0"));
