import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q5_K weights", () => testMatmul("q5_K"));
