import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q6_K weights", () => testMatmul("q6_K"));
