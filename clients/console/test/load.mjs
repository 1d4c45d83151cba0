// Loads a module of src/ as Vite builds it, with what of a browser those without a screen need.
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

globalThis.navigator ??= { language: "en-US", userAgent: "node" };
globalThis.location ??= { search: "", hash: "" };

const server = await createServer({
  root: fileURLToPath(new URL("..", import.meta.url)),
  server: { middlewareMode: true, watch: null, ws: false },
  optimizeDeps: { noDiscovery: true },
  appType: "custom",
  logLevel: "error",
});
after(() => server.close());

export const load = (path) => server.ssrLoadModule(`/src/${path}`);
