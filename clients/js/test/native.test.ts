// By the browser's EventSource, which shows less than fetch does.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { eventSources } from "./eventsource.js";
import { at, pass, problem, settle, world } from "./gateway.js";

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

async function opened(options = {}) {
  const sources = eventSources();
  const made = world({ transport: "eventsource", ...options });
  await settle();
  return { ...made, sources };
}

test("the place of the first heartbeat is gone on from, and a heartbeat is no event", async () => {
  const places: string[] = [];
  const { sources, told, states, client } = await opened({ onPosition: (id: string) => places.push(id) });
  assert.equal(new URL(sources[0]!.url).searchParams.get("heartbeat"), "event");
  sources[0]!.open();
  sources[0]!.send("heartbeat", "", at(7));
  assert.deepEqual([told, places, client.lastEventId], [[], [at(7)], at(7)]);
  assert.equal(states.at(-1), "open");
  sources[0]!.fail();
  await pass(1000);
  assert.equal(new URL(sources[1]!.url).searchParams.get("lastEventId"), at(7));
  sources[1]!.open();
  sources[1]!.send("heartbeat", "{}", at(7));
  sources[1]!.send("message", "8", at(8));
  sources[1]!.send("heartbeat", "", at(8));
  assert.deepEqual([told, client.lastEventId], [["8"], at(8)]);
});

test("it is open with its first event, or when none came but nobody sent it away either", async () => {
  const { sources, states } = await opened({ mode: "cookie" });
  sources[0]!.open();
  sources[0]!.fail();
  await pass(1500, 100);
  assert.equal(sources.length, 2);
  sources[1]!.open();
  sources[1]!.fail();
  await pass(3000, 100);
  assert.equal(sources.length, 3);
  assert.ok(!states.includes("open"), `${states}`);
  sources[2]!.open();
  await pass(1500);
  assert.equal(states.at(-1), "open");
  sources[2]!.fail();
  await pass(10_000);
  sources[3]!.open();
  sources[3]!.send("message", "1", at(1));
  assert.equal(states.at(-1), "open", "at once");
});

test("an event of type open or error is one only if the gateway sent it", async () => {
  const { sources, told } = await opened({ types: ["open", "error"] });
  sources[0]!.open();
  sources[0]!.send("open", "door", at(1));
  assert.deepEqual(told, ["open: door"]);
});

test("when the browser was refused, fetch asks why", async () => {
  const { sources, states, answers } = await opened();
  answers.push(problem(400));
  sources[0]!.fail(true);
  await pass(2000);
  assert.deepEqual([sources.length, states.at(-1)], [1, "refused 400"]);
});
