// Prints what a page loads of this client, compressed: at once, and when it is needed.
import { readdirSync, readFileSync, rmSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { build } from "esbuild";

const dist = join(dirname(fileURLToPath(import.meta.url)), "dist");
const folder = mkdtempSync(join(tmpdir(), "antiphon-size-"));
try {
  const entry = join(folder, "page.js");
  writeFileSync(entry, `export { connect } from ${JSON.stringify(join(dist, "index.js"))};`);
  const result = await build({
    entryPoints: [entry],
    outdir: join(folder, "out"),
    bundle: true,
    minify: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    metafile: true,
  });
  const bytes = (path) => brotliCompressSync(readFileSync(path)).length;
  const outputs = Object.entries(result.metafile.outputs);
  const [first] = outputs.find(([, { entryPoint }]) => entryPoint?.endsWith("page.js"));
  const atOnce = new Set([first]);
  for (const path of atOnce) {
    for (const one of result.metafile.outputs[path].imports) if (one.kind === "import-statement") atOnce.add(one.path);
  }
  const name = (path) => /(speaker|microphone|file|base_answers)-/.exec(path)?.[1];
  const sizes = { "at once": [...atOnce].reduce((sum, path) => sum + bytes(path), 0) };
  for (const [path] of outputs) if (!atOnce.has(path) && name(path)) sizes[name(path)] = bytes(path);
  for (const file of readdirSync(dist).filter((file) => /^(flac_)?work(let|er)\.js$/.test(file))) sizes[file] = bytes(join(dist, file));
  console.log(JSON.stringify(sizes, null, 2));
} finally {
  rmSync(folder, { recursive: true });
}
