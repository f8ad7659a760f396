import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q5_0 weights", () => testMatmul("q5_0"));
