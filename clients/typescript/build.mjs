// Builds dist/: modules by tsc, one for each source, and what runs in threads of its own as one file each.
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");

rmSync(join(here, "dist"), { recursive: true, force: true });
const compiled = spawnSync(process.execPath, [tsc, "--project", join(here, "tsconfig.json")], { stdio: "inherit" });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

const threads = { worklet: "src/audio/worklet/main.ts", flac_worker: "src/encoders/flac_worker.ts" };
for (const [name, entry] of Object.entries(threads)) {
  if (!existsSync(join(here, entry))) throw new Error(`${entry} is missing`);
  await build({
    entryPoints: [join(here, entry)],
    outfile: join(here, "dist", `${name}.js`),
    bundle: true,
    minify: true,
    format: name === "worklet" ? "esm" : "iife",
    target: "es2022",
    platform: "browser",
    legalComments: "inline",
  });
}
