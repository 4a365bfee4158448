// Bundles the page's scripts and copies what it needs into the package; run by `make phone`.

import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const OUT = new URL("../../src/consilium/web/phone/assets/", import.meta.url);
const FROM = new URL("source/", import.meta.url);
const ENTRIES = ["app.js", "worker.js", "encrypted-app.js", "encrypted-worker.js"]; // two modes
const COPIED = ["index.html", "encrypted.html", "app.css", "sw.js", "icon.svg"];
const IN_BOTH = ["dicom-parser"];
const NOTICES = {
  "LICENCES.txt": ["onnxruntime-web", "onnxruntime-common", ...IN_BOTH],
  "encrypted-LICENCES.txt": IN_BOTH,
};

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
await build({
  entryPoints: ENTRIES.map((name) => new URL(name, FROM).pathname),
  outdir: OUT.pathname,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "inline",
  alias: { zlib: new URL("no-zlib.js", FROM).pathname }, // Node's, which a browser has not
  logLevel: "warning",
});
for (const name of [...COPIED, "manifest.webmanifest"])
  await cp(new URL(name, FROM), new URL(name, OUT));
await cp(
  new URL("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm", import.meta.url),
  new URL("ort.wasm", OUT),
);
for (const [name, packages] of Object.entries(NOTICES)) {
  const notices = await Promise.all(packages.map(notice));
  await writeFile(new URL(name, OUT), notices.join("\n\n"));
}

async function notice(name) {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", folder)));
  const text = await readFile(new URL("LICENSE", folder), "utf8").catch(() => "");
  return `${name} ${version}, licence ${license}\n\n${text}`;
}
