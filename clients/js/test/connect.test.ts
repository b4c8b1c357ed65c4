// The connection, with a gateway in the test's hand and a clock that stands still.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { at, clock, pass, settle, world } from "./gateway.js";

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

test("each attempt has a token of its own, and goes on from the last place", async () => {
  const { streams, requests, last, told, client } = world({ topics: ["orders.eu", "news"] });
  await settle();
  assert.deepEqual([requests[0]!.method, requests[0]!.authorization], ["POST", "Bearer jwt"]);
  assert.equal(requests[1]!.authorization, null, "a token needs no JWT beside it");
  assert.deepEqual([last().get("token"), last().get("topics")], ["token1", "orders.eu,news"]);
  assert.equal(last().get("lastEventId"), null);
  await streams[0]!.write(`:connected\n\nid: ${at(4)}\n\n`);
  await streams[0]!.event(5);
  await streams[0]!.write(`id: ${at(9)}\n\n`);
  assert.equal(client.lastEventId, at(9), "a block with only an id moves the place");
  await streams[0]!.cut();
  await pass(1000);
  assert.deepEqual([last().get("token"), last().get("lastEventId")], ["token2", at(9)]);
  assert.deepEqual(told, ["5"]);
});

test("no event counts twice, whatever is replayed, and one without an id counts", async () => {
  const { streams, told } = world();
  await settle();
  await streams[0]!.event(5);
  await streams[0]!.event(6);
  await streams[0]!.cut();
  await pass(1000);
  for (const sequence of [5, 6, 7, 7, 6, 8]) await streams[1]!.event(sequence);
  await streams[1]!.write("event: welcome\ndata: hello\n\n");
  assert.deepEqual(told, ["5", "6", "7", "8", "welcome: hello"]);
});

test("a gap is told, and what comes after it counts, be its place earlier", async () => {
  const { streams, told, last } = world({ lastEventId: at(50) });
  await settle();
  assert.equal(last().get("lastEventId"), at(50));
  await streams[0]!.write(`event: reset\ndata: {"reason":"expired"}\n\nid: ${at(3)}\n\n`);
  await streams[0]!.event(4);
  await streams[0]!.write(`event: reset\ndata: {"reason":"epoch"}\n\nid: 0000000b-1\ndata: other\n\n`);
  assert.deepEqual(told, ["reset: expired", "4", "reset: epoch", "other"]);
});

test("what the application throws does not end the stream", async () => {
  const { streams, told, states } = world({
    onEvent: ({ data }) => {
      told.push(data);
      throw new Error("of the application");
    },
  });
  await settle();
  await streams[0]!.event(1);
  await streams[0]!.event(2);
  assert.deepEqual([told, states.at(-1)], [["1", "2"], "open"]);
  assert.throws(() => mock.timers.tick(1), /of the application/, "nor is it swallowed");
});

test("the end of a completed stream is the end, at once or by 204", async () => {
  const one = world();
  await settle();
  await one.streams[0]!.write(`id: ${at(7)}-end\ndata: done\n\n`);
  await pass(60_000);
  assert.deepEqual([one.told, one.states.at(-1), one.streams.length], [["done"], "complete", 1]);
  const two = world({ lastEventId: `${at(7)}-end` });
  two.answers.push(new Response(null, { status: 204 }));
  await pass(60_000);
  assert.deepEqual([two.states.at(-1), two.requests.length], ["complete 204", 2]);
});

test("a refusal is met with a fresh credential, and the second one is the end", async () => {
  for (const status of [401, 403]) {
    const wanted: boolean[] = [];
    const { answers, states, streams } = world({
      getJwt: ({ refused }) => {
        wanted.push(refused);
        return "jwt";
      },
    });
    const no = () => new Response("{}", { status });
    answers.push(no());
    await pass(1000);
    assert.deepEqual([wanted, states.at(-1)], [[false, true], "open"]);
    answers.push(no(), no());
    await streams[0]!.cut();
    await pass(600_000, 5000);
    assert.deepEqual(wanted, [false, true, false, true], "and no more");
    assert.equal(states.at(-1), `refused ${status}`);
  }
});

test("a stream that is ended soon asks for a fresh credential, and one that was stable does not", async () => {
  const wanted: boolean[] = [];
  const { streams } = world({ getJwt: ({ refused }) => (wanted.push(refused), "jwt") });
  await settle();
  await streams[0]!.end();
  await pass(1000);
  await pass(21_000);
  await streams[1]!.end();
  await pass(1000);
  assert.deepEqual(wanted, [false, true, false]);
});

test("who is signed out is asked once more, and then left alone", async () => {
  const { requests, states } = world({ getJwt: () => null });
  await pass(60_000);
  assert.deepEqual([requests.length, states.at(-1)], [0, "refused 401"]);
});

test("Retry-After is waited for, and a page that wakes does not cut it short", async () => {
  const { answers, streams, client } = world();
  answers.push(new Response("{}", { status: 503, headers: { "retry-after": "20" } }));
  await settle();
  for (let second = 0; second < 19; second++) {
    client.wake();
    await pass(1000);
  }
  assert.equal(streams.length, 0);
  await pass(2000);
  assert.equal(streams.length, 1);
});

test("retry: is the base until the next stream opens, and waking skips what nobody asked for", async (t) => {
  t.mock.method(Math, "random", () => 0.999);
  const { answers, streams, client } = world();
  await settle();
  await streams[0]!.write("retry: 5000\n\n");
  await streams[0]!.end();
  await pass(4900);
  assert.equal(streams.length, 1);
  await pass(200);
  assert.equal(streams.length, 2);
  answers.push(...new Array<"cut">(6).fill("cut"));
  await streams[1]!.cut();
  // 2, 4, 8, 16 and 30 seconds: it was not stable since the drain.
  await pass(59_000);
  assert.equal(answers.length, 2);
  for (const left of [1, 0]) {
    client.wake();
    await settle();
    assert.deepEqual([client.state, answers.length], ["waiting", left]);
  }
  client.wake();
  await settle();
  assert.equal(client.state, "open");
});

test("retry: 0 makes the first return soon, and no loop without a pause", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  const { streams, answers } = world();
  await settle();
  await streams[0]!.write("retry: 0\n\n");
  await streams[0]!.cut();
  await pass(51, 1);
  assert.equal(streams.length, 2);
  await streams[1]!.write("retry: 0\n\n");
  answers.push(...new Array<"cut">(20).fill("cut"));
  await streams[1]!.cut();
  // 1, 2, 4 and 8 seconds.
  await pass(14_000, 100);
  assert.equal(answers.length, 17);
});

test("a stream that was stable for a heartbeat begins with the shortest delay again", async (t) => {
  t.mock.method(Math, "random", () => 0.999);
  const { answers, streams } = world();
  answers.push("cut", "cut", "cut");
  await pass(8000);
  assert.equal(streams.length, 1);
  for (let i = 0; i < 3; i++) {
    await pass(10_000);
    await streams[0]!.write(":heartbeat\n\n");
  }
  await streams[0]!.cut();
  await pass(1000);
  assert.equal(streams.length, 2);
});

test("a credential that never comes is asked for again, as an attempt without an answer", async () => {
  const asked: number[] = [];
  const { states, streams } = world({
    getJwt: () => (asked.push(asked.length), asked.length < 3 ? new Promise<string>(() => {}) : "jwt"),
  });
  await pass(21_000);
  assert.deepEqual(states.slice(0, 3), ["connecting", "waiting", "connecting"]);
  await pass(28_000);
  assert.deepEqual([asked.length, streams.length, states.at(-1)], [3, 1, "open"]);
});

test("a credential may take its time, and the answer then has its own", async () => {
  const { streams, states } = world({
    getJwt: () => new Promise((resolve) => setTimeout(() => resolve("jwt"), 12_000)),
  });
  await pass(13_000);
  assert.deepEqual([states, streams.length], [["connecting", "open"], 1]);
});

test("silence of three heartbeats ends a stream, and of one an attempt", async () => {
  const { answers, streams, states } = world();
  await settle();
  for (let i = 0; i < 8; i++) {
    await pass(14_000);
    await streams[0]!.write(":heartbeat\n\n");
  }
  assert.deepEqual(states, ["connecting", "open"]);
  answers.push("silence");
  await pass(44_000);
  assert.equal(states.length, 2);
  await pass(8000);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting"]);
  await pass(22_000);
  assert.deepEqual([states.at(-1), streams.length], ["open", 2]);
});

test("a step of the clock: forward is taken for sleep, and backward hides no silence", async () => {
  const { streams, states } = world();
  await settle();
  await streams[0]!.event(1);
  clock.now += 3_600_000;
  await pass(6000);
  assert.equal(streams.length, 2, "seen at the next look");
  clock.now -= 7_200_000;
  for (let i = 0; i < 8; i++) {
    await pass(14_000);
    await streams[1]!.write(":heartbeat\n\n");
  }
  assert.equal(streams.length, 2, "nothing is amiss");
  await pass(52_000);
  assert.deepEqual([streams.length, states.at(-1)], [3, "open"]);
});

test("a wrong declaration is told at once", () => {
  assert.throws(() => world({ getJwt: undefined! }), /getJwt/);
  assert.throws(() => world({ mode: "bearer", transport: "eventsource" }), /Bearer/);
});
