import { closeSync, openSync } from "node:fs";
import { type FileHandle, open, readdir, readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { Replacement, readAll, writeAll } from "../lib/files.js";
import { temporaryFolder } from "./support/gguf-writer.js";

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);

it("writeAll writes what the system takes in parts", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "file");
  await using file = await open(path, "w");
  const few = {
    write: (from: Uint8Array, offset: number, length: number, position: number) =>
      file.write(from, offset, Math.min(length, 7), position),
  };
  await writeAll(few as FileHandle, bytes.subarray(10), 5);
  expect([...(await readFile(path))]).toEqual([0, 0, 0, 0, 0, ...bytes.subarray(10)]);
});

it("readAll tells how far the file went", async () => {
  await using folder = await temporaryFolder();
  const fd = openSync(await folder.write("file", bytes), "r");
  const into = new Uint8Array(50);
  expect(readAll(fd, into, 20)).toBe(50);
  expect(into).toEqual(bytes.subarray(20, 70));
  expect(readAll(fd, into, 70)).toBe(30);
  closeSync(fd);
});

describe("Replacement", () => {
  it("takes the name when it is finished, also that which a link stands for", async () => {
    await using folder = await temporaryFolder();
    const [path, link] = [await folder.write("file", bytes), join(folder.path, "link")];
    await symlink(path, link);
    {
      await using replacement = await Replacement.open(link);
      await replacement.write("n");
      await replacement.write(Buffer.from("ew"));
      expect([...(await readFile(path))]).toEqual([...bytes]);
      await replacement.finish();
    }
    expect(await readFile(path, "utf8")).toBe("new");
    expect((await readdir(folder.path)).sort()).toEqual(["file", "link"]);
  });

  it("names what the system refuses to write", async () => {
    await using full = await Replacement.open("/dev/full");
    await expect(full.write("new")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: "/dev/full: cannot be written: no space left on device",
    });
  });

  it("that is not finished is gone", async () => {
    await using folder = await temporaryFolder();
    {
      await using replacement = await Replacement.open(join(folder.path, "file"));
      await replacement.write("new");
      expect(await readdir(folder.path)).toHaveLength(1);
    }
    expect(await readdir(folder.path)).toEqual([]);
  });
});
