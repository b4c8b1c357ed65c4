// The package as it is published: installed where nothing else is, imported, and read by TypeScript.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const TSC = join(HERE, "node_modules/typescript/bin/tsc");

/** Whoever takes all that there is. */
const CONSUMER = `
import { type Connection, type Detail, GatewayEventSource, type Options, connect } from "sse-gateway-client";
import { type SharedOptions, connectShared } from "sse-gateway-client/shared";

const options: Options = {
  url: "/api/v1/sse",
  getJwt: async ({ refused }) => (refused ? null : "jwt"),
  topics: ["orders.eu"] as const,
  onEvent: ({ type, data, id }) => console.log(type.length, data.length, id.length),
  onReset: (reason) => console.log(reason === "expired"),
  onState: (state, { status, detail }: Detail) => console.log(state === "refused", status, detail?.length),
};
const shared: SharedOptions = { ...options, key: "acme/alice" };
const connections: Connection[] = [connect(options), connectShared(shared)];
for (const connection of connections) connection.close();

const source: EventSource = new GatewayEventSource("/api/v1/sse", { getJwt: () => "jwt" });
source.addEventListener("order.shipped", ({ data, lastEventId }) => console.log(data, lastEventId));
source.onmessage = ({ data }) => console.log(data);
const closed: boolean = source.readyState === GatewayEventSource.CLOSED;
console.log(closed);
// @ts-expect-error: types are there, and are no \`any\`.
connect({ url: 7 });
`;

let folder = "";

const npm = (cwd: string, ...options: string[]) => {
  const env = { ...process.env, npm_config_loglevel: "error", npm_config_update_notifier: "false" };
  return execFileSync("npm", options, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
};

before(() => {
  folder = mkdtempSync(join(tmpdir(), "consumer-"));
  npm(HERE, "pack", "--silent", "--pack-destination", folder);
  const [tarball] = readdirSync(folder);
  const consumer = join(folder, "consumer");
  mkdirSync(consumer);
  writeFileSync(join(consumer, "package.json"), JSON.stringify({ private: true, type: "module" }));
  npm(consumer, "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", join(folder, tarball!));
  folder = consumer;
});

after(() => rmSync(join(folder, ".."), { recursive: true, force: true }));

test("TypeScript finds its types, whichever way it resolves", () => {
  writeFileSync(join(folder, "consumer.ts"), CONSUMER);
  for (const [module, moduleResolution] of [["esnext", "bundler"], ["node16", "node16"], ["esnext", "node10"]] as const) {
    const compilerOptions = { module, moduleResolution, target: "es2022", lib: ["es2022", "dom"], types: [], strict: true, noEmit: true };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }));
    const { status, stdout } = spawnSync(process.execPath, [TSC, "--project", folder], { encoding: "utf8" });
    assert.equal(status, 0, `${moduleResolution}: ${stdout}`);
  }
});

test("it is imported where there is no page, and neither part has a second core", () => {
  const script = `
    import * as index from "sse-gateway-client";
    import * as shared from "sse-gateway-client/shared";
    console.log(Object.keys(index).sort().join(), Object.keys(shared).join());`;
  const said = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder, encoding: "utf8" });
  assert.equal(said.trim(), "GatewayEventSource,connect connectShared");
  for (const file of ["index", "source", "shared"]) {
    const text = readFileSync(join(folder, `node_modules/sse-gateway-client/dist/${file}.js`), "utf8");
    assert.match(text, /from"\.\/connect\.js"/, file);
    assert.doesNotMatch(text, /text\/event-stream/, file);
  }
});

test("it says where it comes from, and what it needs: nothing", () => {
  const told = JSON.parse(readFileSync(join(folder, "node_modules/sse-gateway-client/package.json"), "utf8"));
  for (const field of ["repository", "homepage", "bugs", "keywords", "engines", "license", "main", "types"]) {
    assert.ok(told[field], field);
  }
  assert.equal(told.dependencies, undefined);
  assert.deepEqual(readdirSync(join(folder, "node_modules")).filter((name) => !name.startsWith(".")), [told.name]);
});
