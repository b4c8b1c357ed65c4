// The lines of the README run as they stand there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, mock, test } from "node:test";
import { connect } from "../src/index.js";
import type { Options, Wanted } from "../src/options.js";
import { at, clock, gateway, pass, settle, standStill } from "./gateway.js";

const README = readFileSync(new URL("../README.md", import.meta.url), "utf8");

/** The first block of JavaScript below a heading, as a function of what it uses. Returns what it defines. */
function lines(heading: string, defines: string, uses: Record<string, unknown>) {
  const [, below = ""] = README.split(`\n## ${heading}\n`);
  const [, block = ""] = /```js\n([^]*?)```/.exec(below) ?? [];
  const script = block.replace(/^import .*$/gm, "").replace(/^export /gm, "");
  return new Function(...Object.keys(uses), `${script}\nreturn ${defines};`)(...Object.values(uses));
}

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

test("a JWT is kept until its end is near, asked for once, and anew when it was refused", async () => {
  standStill();
  let minted = 0;
  let status = 200;
  const fetch = async () => Response.json({ access_token: `jwt${++minted}`, expires_in: 300 }, { status });
  const getJwt = lines("A JWT that is kept", "getJwt", { fetch }) as (wanted: Wanted) => Promise<string | null>;
  const [usual, anew] = [{ refused: false }, { refused: true }];
  assert.deepEqual(await Promise.all([getJwt(usual), getJwt(usual)]), ["jwt1", "jwt1"]);
  clock.now += 269_000;
  assert.equal(await getJwt(usual), "jwt1");
  clock.now += 2000;
  assert.equal(await getJwt(usual), "jwt2");
  assert.equal(await getJwt(anew), "jwt3");
  status = 503;
  await assert.rejects(getJwt(anew), /503/);
  status = 401;
  assert.equal(await getJwt(usual), null, "a refused one is not kept");
});

const told = (seen: string[]) => ({
  getJwt: () => "jwt",
  onEvent: ({ data }: { data: string }) => seen.push(data),
  onReset: () => {},
});

test("other topics go on from where the first were", async () => {
  const { streams, requests } = gateway();
  const seen: string[] = [];
  const here = (options: Options) => connect({ ...options, url: "http://gateway/sse" });
  const change = lines("Other topics", "change", { connect: here, ...told(seen) });
  await settle();
  await streams[0]!.event(1);
  change(["orders.us"]);
  await settle();
  await streams[1]!.event(2);
  const { searchParams } = requests.at(-1)!.url;
  assert.deepEqual([searchParams.get("topics"), searchParams.get("lastEventId")], ["orders.us", at(1)]);
  assert.deepEqual(seen, ["1", "2"]);
  change([]);
});

test("in React a stream stays across renders, and goes on with other topics", async () => {
  const { streams, requests } = gateway();
  const seen: string[] = [];
  let hooks: { current?: unknown; depends?: unknown[] | undefined; clean?: (() => void) | undefined }[] = [];
  let turn = 0;
  const useRef = (current: unknown) => (hooks[turn++] ??= { current });
  const useEffect = (effect: () => (() => void) | undefined, depends?: unknown[]) => {
    const hook = (hooks[turn++] ??= {});
    if (depends && JSON.stringify(depends) === JSON.stringify(hook.depends)) return;
    hook.clean?.();
    Object.assign(hook, { depends, clean: effect() });
  };
  const useGateway = lines("In React", "useGateway", { connect, useRef, useEffect });
  const render = async (topics: string[]) => {
    turn = 0;
    useGateway({ url: "http://gateway/sse", topics, ...told(seen) });
    await settle();
  };
  await render(["a"]);
  await render(["a"]);
  await streams[0]!.event(1);
  await render(["a", "b"]);
  await streams[1]!.event(2);
  assert.deepEqual([seen, streams.length], [["1", "2"], 2]);
  assert.equal(requests.at(-1)!.url.searchParams.get("lastEventId"), at(1));
  for (const hook of hooks) hook.clean?.();
  await pass(60_000, 5000);
  assert.equal(streams.length, 2, "none when it is taken away");
  hooks = [];
});
