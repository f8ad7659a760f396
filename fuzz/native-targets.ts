/** The targets of fuzz/native, and how long an input of each need be to say all that it reads. */
export const nativeTargets: readonly { readonly name: string; readonly bytes: number }[] = [
  { name: "abi", bytes: 1200 },
  { name: "files", bytes: 600 },
  { name: "caches", bytes: 600 },
  { name: "kernels", bytes: 600 },
  { name: "programs", bytes: 800 },
];
