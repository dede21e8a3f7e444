// Writes viewer.bundle.js from src/: the same bytes wherever it runs. `npm ci && npm run build`.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));

/** SHA-256 over everything the bundle is made of, so that a test can tell whether it was rebuilt after a change. */
function hashOfSources() {
  const sources = readdirSync(join(here, "src")).sort().map((name) => join("src", name));
  const hash = createHash("sha256");
  for (const name of [...sources, "build.js", "package-lock.json"]) {
    hash.update(readFileSync(join(here, name)));
  }
  return hash.digest("hex");
}

await build({
  absWorkingDir: here,
  entryPoints: ["src/viewer.js"],
  outfile: "viewer.bundle.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "ascii",
  legalComments: "inline",
  banner: { js: `/* Built by build.js, do not edit. Contains three.js, MIT licence. sources: ${hashOfSources()} */` },
});
