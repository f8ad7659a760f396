import { join } from "node:path";

import { packageRoot } from "./package.js";

/**
 * The model that comes with the package: half a million parameters, trained for it on TinyStories (models/README.md).
 */
export const tinyModel: string = join(packageRoot, "models", "cria-tiny-q8_0.gguf");
