// What looks like an EventSource is one to whoever listens, and to TypeScript.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { GatewayEventSource } from "../src/index.js";
import type { Options } from "../src/options.js";
import { at, gateway, pass, problem, settle } from "./gateway.js";

afterEach(() => {
  mock.timers.reset();
  mock.reset();
});

function opened(options: Partial<Options> = {}) {
  const world = gateway();
  const source = new GatewayEventSource("http://gateway/sse", { getJwt: () => "jwt", ...options });
  return { ...world, source };
}

test("it can be put where an EventSource is expected, with its constants", () => {
  const { source } = opened();
  const expected: EventSource = source;
  const { CONNECTING, OPEN, CLOSED } = GatewayEventSource;
  assert.deepEqual([CONNECTING, OPEN, CLOSED], [0, 1, 2]);
  assert.deepEqual([expected.CONNECTING, expected.OPEN, expected.CLOSED], [0, 1, 2]);
  assert.deepEqual([source.url, source.withCredentials], ["http://gateway/sse", false]);
  source.close();
});

test("handlers are listeners, in the order in which they were set, and have a target", async () => {
  const { source, streams } = opened();
  const told: string[] = [];
  const hears = (name: string) => (event: Event) => {
    assert.equal(event.target, source);
    told.push(name);
  };
  source.addEventListener("message", hears("first"));
  source.onmessage = hears("replaced");
  source.addEventListener("message", hears("last"));
  const handler = hears("handler");
  source.onmessage = handler;
  assert.equal(source.onmessage, handler);
  await settle();
  await streams[0]!.event(1);
  assert.deepEqual(told, ["first", "handler", "last"]);
  source.onmessage = null;
  assert.equal(source.onmessage, null);
  await streams[0]!.event(2);
  assert.deepEqual(told.slice(3), ["first", "last"]);
  source.close();
});

test("a handler that throws keeps no listener from the event, and is not swallowed", async (t) => {
  const thrown: unknown[] = [];
  t.mock.method(process, "nextTick", (callback: () => void) => {
    try {
      callback();
    } catch (error) {
      thrown.push(error);
    }
  });
  const { source, streams } = opened({
    onState: () => {
      throw new Error("of onState");
    },
  });
  const told: string[] = [];
  const fail = (what: string) => () => {
    throw new Error(what);
  };
  source.onopen = fail("of onopen");
  source.addEventListener("open", () => told.push("open"));
  source.onmessage = fail("of onmessage");
  source.addEventListener("message", ({ data }) => told.push(data));
  await settle();
  await streams[0]!.event(1);
  assert.deepEqual(told, ["open", "1"]);
  assert.deepEqual(thrown.map(String), ["Error: of onopen", "Error: of onmessage"]);
  assert.throws(() => mock.timers.tick(1), /of onState/);
  source.close();
});

test("events, gaps and places come as the browser's own would hand them", async () => {
  const { source, streams } = opened();
  const told: unknown[] = [];
  source.addEventListener("order.shipped", ({ type, data, lastEventId, origin }) =>
    told.push([type, data, lastEventId, origin]),
  );
  source.addEventListener("reset", { handleEvent: (event) => told.push(JSON.parse((event as MessageEvent).data)) });
  source.onmessage = ({ data }) => told.push(data);
  await settle();
  await streams[0]!.write(`id: ${at(3)}\nevent: order.shipped\ndata: {}\n\n`);
  await streams[0]!.write(`event: reset\ndata: {"reason":"expired"}\n\n`);
  await streams[0]!.event(4, "four");
  assert.deepEqual(told, [
    ["order.shipped", "{}", at(3), "http://gateway"],
    { reason: "expired" },
    "four",
  ]);
  assert.equal(source.lastEventId, at(4));
  source.close();
});

test("open and error tell of each coming and going, and readyState whether it comes back", async () => {
  const { source, streams, answers } = opened();
  const told: string[] = [];
  source.onopen = ({ type }) => told.push(`${type} ${source.readyState}`);
  source.onerror = ({ type }) => told.push(`${type} ${source.readyState}`);
  assert.equal(source.readyState, source.CONNECTING);
  await settle();
  await streams[0]!.cut();
  await pass(1000);
  answers.push(problem(400));
  await streams[1]!.cut();
  await pass(3000);
  assert.deepEqual(told, ["open 1", "error 0", "open 1", "error 0", "error 2"]);
});

test("close is the end, without a word", async () => {
  const { source, streams, requests } = opened();
  const told: string[] = [];
  source.onmessage = ({ data }) => told.push(data);
  source.onerror = () => told.push("error");
  await settle();
  source.close();
  assert.equal(source.readyState, source.CLOSED);
  await pass(60_000);
  assert.deepEqual([told, streams.length, requests.length], [[], 1, 2]);
});
