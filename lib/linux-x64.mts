/** `import` of cria/linux-x64: see linux-x64.ts. */
import "./linux-x64.js";
