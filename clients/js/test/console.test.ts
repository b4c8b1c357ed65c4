// The gateway's console follows a stream by a script of its own, which comes back as gently.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, mock, test } from "node:test";
import { Stream, pass, settle, standStill } from "./gateway.js";

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

const read = (name: string) => readFileSync(new URL(`../../../gateway/console/${name}`, import.meta.url), "utf8");

/** What the page does with a stream, in a gateway that answers with `streams`. */
function follow() {
  standStill();
  mock.method(Math, "random", () => 0.5);
  const streams: Stream[] = [];
  const delays: number[] = [];
  const stream = async (..._: unknown[]) => {
    const made = new Stream(_[4] as AbortSignal);
    streams.push(made);
    return made.response;
  };
  const on = {
    state: (state: string, detail?: { delay: number }) => state === "waiting" && delays.push(detail!.delay),
    block: () => {},
  };
  const made = new Function(`${read("wire.js")}\n${read("gateway.js")}\nreturn follow;`)();
  const { close } = made({ stream }, { heartbeatSeconds: 15 }, "", on);
  return { streams, delays, close };
}

test("retry: 0 makes the console return soon once, and streams that end at once are failures", async () => {
  const { streams, delays, close } = follow();
  await settle();
  for (let i = 0; i < 5; i++) {
    await streams.at(-1)!.write("retry: 0\n\n");
    await streams.at(-1)!.end();
    await pass(8000, 50);
  }
  assert.deepEqual(delays, [50, 1000, 2000, 4000, 7500]);
  close();
});

test("what retry: asked for is over with the next stream, and failures with one that was stable", async () => {
  const { streams, delays, close } = follow();
  await settle();
  await streams[0]!.write("retry: 5000\n\n");
  await streams[0]!.end();
  await pass(3000);
  await streams[1]!.end();
  await pass(3000);
  await pass(16_000);
  await streams[2]!.end();
  await pass(1000);
  assert.deepEqual(delays, [2500, 1000, 500]);
  close();
});
