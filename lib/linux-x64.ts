/**
 * For bundlers: the prebuilt addon by names that they can follow, where they would not see that it is looked for in the
 * package's folder. It is imported for its effect, before anything else of cria.
 */
import { familySync, MUSL } from "detect-libc";

import { BindingError, provideBinding } from "./binding.js";

provideBinding(() => (familySync() === MUSL ? musl() : glibc()));

// Each in a `try` of its own: bundlers then allow that the other is absent.

function glibc() {
  try {
    return require("../../prebuilds/linux-x64/cria.glibc.node");
  } catch (cause) {
    throw new BindingError("prebuilds/linux-x64/cria.glibc.node", cause);
  }
}

function musl() {
  try {
    return require("../../prebuilds/linux-x64/cria.musl.node");
  } catch (cause) {
    throw new BindingError("prebuilds/linux-x64/cria.musl.node", cause);
  }
}
