import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q4_K weights", () => testMatmul("q4_K"));
