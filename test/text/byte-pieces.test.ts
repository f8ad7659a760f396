import { expect, test } from "vitest";

import { byteOf } from "../../lib/text/byte-pieces.js";

test("every byte has one piece, with two hexadecimal digits in capitals", () => {
  const digits = [..."0123456789ABCDEF"];
  const pieces = digits.flatMap((high) => digits.map((low) => `<0x${high}${low}>`));
  expect(pieces.map(byteOf)).toEqual(Array.from({ length: 256 }, (_, byte) => byte));
});

test.each(["<0x0a>", "<0xfF>", "<0X0A>", "<0xA>", "<0x00A>", " <0x0A>", "<0x0A>\n", "0x0A", ""])(
  "%j is no byte's",
  (piece) => {
    expect(byteOf(piece)).toBeUndefined();
  },
);
