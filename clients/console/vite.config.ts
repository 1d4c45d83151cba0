import { defineConfig } from "vite";

const GATEWAY = "http://127.0.0.1:8080";

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
  // `npm run dev`: the page as it is written, before a gateway that `make serve` runs.
  optimizeDeps: { exclude: ["@antiphon/client"] },
  server: { proxy: { "/ws": { target: GATEWAY, ws: true }, "/about": GATEWAY, "/readyz": GATEWAY } },
});
