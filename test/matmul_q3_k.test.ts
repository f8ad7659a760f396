import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q3_K weights", () => testMatmul("q3_K"));
