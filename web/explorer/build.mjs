// Bundles the page into the Python package; `node build.mjs FILE` writes elsewhere.
import { build } from "esbuild";

const outfile = process.argv[2] ?? "../../src/neumap/explorer/static/explorer.js";
await build({
  entryPoints: ["src/index.js"],
  outfile,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  loader: { ".css": "text" },
});
