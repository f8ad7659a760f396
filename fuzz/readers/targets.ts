import type { Target } from "./target.js";
import { gguf } from "./targets/gguf.js";
import { packed } from "./targets/packed.js";
import { sessions } from "./targets/sessions.js";
import { tokenizer } from "./targets/tokenizer.js";

/** The readers that are fuzzed, by name. */
export const readerTargets: Readonly<Record<string, Target>> = { gguf, packed, sessions, tokenizer };
