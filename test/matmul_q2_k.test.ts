import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q2_K weights", () => testMatmul("q2_K"));
