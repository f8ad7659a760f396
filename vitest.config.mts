import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks", // worker threads would share one instance of the addon
    testTimeout: 120_000,
  },
});
