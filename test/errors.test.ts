import { expect, test } from "vitest";

import { CriaFileError } from "../lib/errors.js";

test("an error of a file writes the control characters of what it quotes as escapes, and keeps the names", () => {
  const error = new CriaFileError("a\x1b[2J\n", "b\x9bc", "must be é, not è\x07");
  expect(error.message).toBe("a\\u001b[2J\\u000a: b\\u009bc: must be é, not è\\u0007");
  expect([error.file, error.subject]).toEqual(["a\x1b[2J\n", "b\x9bc"]);
});
