/** The targets of fuzz/native. */
export const nativeTargets = ["abi", "files", "caches", "kernels", "programs"] as const;
