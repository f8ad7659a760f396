import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { needFiles, packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";

const main = packageFile("dist", "lib", "cli", "main.js");

const start = (...argv: string[]) => spawn(process.execPath, [main, ...argv], { stdio: ["ignore", "pipe", "pipe"] });

/** How a process ended, and what it said to people. */
async function ending(child: ChildProcess): Promise<{ code: number | null; stderr: string }> {
  let stderr = "";
  child.stderr!.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, stderr };
}

const endless = ["generate", "--ignore-eos", "--max-tokens", "1000000"];

describe("the compiled command line", () => {
  it("speaks and exits with 0", async (context) => {
    needFiles(context, main);
    const child = start("generate", "--prompt", "Once upon a time", "--temperature", "0");
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (piece) => {
      text += piece;
    });
    expect((await ending(child)).code).toBe(0);
    expect(text).toMatch(/^, there was a little girl named Lily\./);
  });

  it("exits with 2 after a wrong command line", async (context) => {
    needFiles(context, main);
    expect((await ending(start("generate", "--volume"))).code).toBe(2);
  });

  it("exits with 130 after Ctrl-C", async (context) => {
    needFiles(context, main);
    const child = start(...endless);
    child.stdout.once("data", () => child.kill("SIGINT"));
    const { code, stderr } = await ending(child);
    expect(code).toBe(130);
    expect(stderr).toMatch(/^cria: warning: .*\n$/);
  });

  it("ends when a chat fails, though its input goes on", async (context) => {
    needFiles(context, main);
    const argv = ["chat", tinyModel, "--template", "vicuna", "--json"];
    const child = spawn(process.execPath, [main, ...argv], { stdio: ["pipe", "pipe", "pipe"] });
    child.stdin.write("no JSON\n");
    const { code, stderr } = await ending(child);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/must be JSON strings, not "no JSON"/) });
  });

  it("ends quietly when nobody reads on", async (context) => {
    needFiles(context, main);
    const child = start(...endless);
    child.stdout.once("data", () => child.stdout.destroy());
    const { code, stderr } = await ending(child);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^cria: warning: .*\n$/);
  });

  it("writes its files where nobody reads what it tells beside them", async (context) => {
    needFiles(context, main);
    await using folder = await temporaryFolder();
    const out = join(folder.path, "tiny.gguf");
    const child = start("quantize", tinyModel, out, "--type", "q4_K"); // whose rows do not fit, of which it warns
    child.stderr.destroy();
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect({ code, written: existsSync(out) }).toEqual({ code: 0, written: true });
  });

  it("exits with 1 where its output cannot be written, also at its end", async (context) => {
    needFiles(context, main, "/dev/full");
    const full = openSync("/dev/full", "w");
    const child = spawn(process.execPath, [main, "tokenize", tinyModel, "--text", "Once"], {
      stdio: ["ignore", full, "pipe"],
    });
    closeSync(full);
    const { code, stderr } = await ending(child);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^cria: the output: ENOSPC/);
  });
});
