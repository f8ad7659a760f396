import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with q4_z weights", () => testMatmul("q4_z"));
