// Makes dist/: the core (connect.js), and beside it, each importing the core, what looks like an EventSource, tab sharing,
// and the index; and their types. Fails when the core has grown beyond its bound. With --tests it makes build/ instead:
// the tests, each in one piece with what it tests.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Bytes of the core, minified and gzipped. */
const MOST = 3072;

const common = { bundle: true, format: "esm", target: "es2022" };
if (process.argv.includes("--tests")) {
  rmSync("build", { recursive: true, force: true });
  const entryPoints = readdirSync("test").filter((file) => file.endsWith(".test.ts")).map((file) => `test/${file}`);
  await build({ ...common, entryPoints, outdir: "build", platform: "node", outExtension: { ".js": ".mjs" } });
} else {
  rmSync("dist", { recursive: true, force: true });
  const made = { ...common, outdir: "dist", minify: true, sourcemap: true };
  await build({ ...made, entryPoints: ["src/connect.ts"] });
  const entryPoints = ["src/index.ts", "src/source.ts", "src/shared.ts"];
  await build({ ...made, entryPoints, external: ["./connect.js", "./source.js"] });
  const tsc = "node_modules/typescript/bin/tsc";
  execFileSync(process.execPath, [tsc, "--noEmit"], { stdio: "inherit" });
  const types = ["--declaration", "--emitDeclarationOnly", "--rootDir", "src", "--outDir", "dist"];
  execFileSync(process.execPath, [tsc, "--project", "tsconfig.types.json", ...types], { stdio: "inherit" });
  for (const file of ["connect.js", "source.js", "shared.js"]) {
    const size = gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
    console.log(`${file}: ${size} bytes, minified and gzipped`);
    if (file === "connect.js" && size > MOST) throw new Error(`the core has more than ${MOST} bytes`);
  }
}
