#!/usr/bin/env node
// What prebuildify calls in place of node-gyp, in build/. It builds as a clone is built, so nothing is compiled twice,
// and leaves copies of what travels in build/build/Release: prebuildify strips and moves what it finds there, and the
// clone's own build stays as it is.
//
// The arguments are node-gyp's and mean other things to cmake-js: a --target is there a version of Node.js, here a
// target of CMake. Node-API needs neither a version nor its headers.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const built = join(root, "build/Release");
const staged = resolve("build/Release");
const prebuilds = join(root, "prebuilds", `${process.env.PREBUILD_PLATFORM}-${process.env.PREBUILD_ARCH}`);

// The addon, the core and the CUDA plugin: neither the emulated GPU nor programs that check.
const travels = /^(cria\.node|libcria(_cuda)?(\.musl)?\.(so|dylib|dll))$/;

build();
// It takes minutes and nvcc, so `npm run build:cuda` is what has it travel; it must be of the same sources.
if (readdirSync(built).some((name) => name.startsWith("libcria_cuda."))) build("--target", "cria_cuda");

// What an earlier run left may be of other sources.
for (const name of readdirSync(prebuilds)) rmSync(join(prebuilds, name));
if (existsSync(staged)) rmSync(staged, { recursive: true });
mkdirSync(staged, { recursive: true });
for (const name of readdirSync(built).filter((name) => travels.test(name))) {
  copyFileSync(join(built, name), join(staged, name));
}

function build(...target) {
  const cmakeJs = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
  const options = ["build", "--directory", root, "--CDCMAKE_BUILD_TYPE=Release", ...target];
  execFileSync(process.execPath, [cmakeJs, ...options], { stdio: "inherit" });
}
