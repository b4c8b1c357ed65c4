// Answers that are no stream: which of them are the end, and what is told of them.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import type { Detail } from "../src/options.js";
import { Stream, at, pass, problem, settle, world } from "./gateway.js";

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

test("a request that is wrong is the end, with what the gateway says of it", async () => {
  for (const status of [400, 413, 414, 431]) {
    const told: Detail[] = [];
    const { answers, client, requests } = world({ onState: (_, detail) => told.push(detail) });
    answers.push(problem(status, "A topic has an empty level."));
    await pass(60_000);
    assert.deepEqual([client.state, requests.length], ["refused", 2], `${status}`);
    assert.deepEqual([told.at(-1)!.status, told.at(-1)!.detail], [status, "A topic has an empty level."]);
  }
});

test("what is wrong is told of a credential, and while it waits", async () => {
  const told: Detail[] = [];
  const { answers } = world({ onState: (_, detail) => told.push(detail) });
  answers.push(problem(503, "Draining."), problem(403, "Of topic a."), problem(403, "Of topic b."));
  await pass(10_000);
  const details = told.map(({ detail }) => detail).filter(Boolean);
  assert.deepEqual(details, ["Draining.", "Of topic a.", "Of topic b."]);
});

test("an answer that is no problem has no detail, and counts as it is", async () => {
  const { answers, states } = world();
  answers.push(new Response("<h1>Bad Gateway</h1>", { status: 502 }), new Response("null", { status: 502 }));
  await pass(10_000);
  assert.deepEqual(states.filter((state) => state.startsWith("waiting")), ["waiting 502", "waiting 502"]);
  assert.equal(states.at(-1), "open");
});

test("a wrong address is the end when it is the first answer of all", async () => {
  for (const status of [404, 405]) {
    const { answers, states, requests } = world();
    answers.push("cut", problem(status));
    await pass(60_000);
    assert.deepEqual([states.at(-1), requests.length], [`refused ${status}`, 4]);
  }
});

test("an address that was right is asked again, and so is that of a place that was kept", async () => {
  const one = world();
  await settle();
  one.answers.push(problem(404), problem(405), problem(404));
  await one.streams[0]!.cut();
  // 1, 2, 4 and 8 seconds at most.
  await pass(20_000);
  assert.deepEqual([one.streams.length, one.client.state], [2, "open"]);
  const two = world({ lastEventId: at(4) });
  two.answers.push(problem(404));
  await pass(5000);
  assert.equal(two.client.state, "open");
});

test("by cookie, a stream that only says when to come back is told as none", async (t) => {
  t.mock.method(Math, "random", () => 0.999);
  const { answers, states, streams } = world({ mode: "cookie" });
  for (let i = 0; i < 4; i++) {
    const stream = new Stream(null, "retry: 2000\n\n");
    answers.push(stream.response);
    await pass(2000 * 2 ** i);
    assert.equal(states.at(-1), "connecting");
    await stream.end();
  }
  await pass(30_000);
  assert.deepEqual(states.filter((state) => state === "open").length, 1, `${states}`);
  await streams[0]!.write("retry: 3000\n\n");
  assert.equal(states.at(-1), "open", "of an open stream it says nothing of that");
});
