import { describe } from "vitest";

import { testMatmul } from "./support/matmul.js";

describe("matmul with iq4_nl weights", () => testMatmul("iq4_nl"));
