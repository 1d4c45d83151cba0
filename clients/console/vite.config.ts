import { defineConfig } from "vite";

// The page obeys `script-src 'self'` and ships in the wheel: every file is one of its own, named by its content.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../../src/antiphon/console",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2022",
  },
});
