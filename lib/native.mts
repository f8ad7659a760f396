/** `import` of cria/native: the names of native.ts, whose one implementation `require` has too. */
export type * from "./native.js";
export { native, native as default } from "./native.js";
