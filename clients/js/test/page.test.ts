// The page is hidden, shown, put away and fetched back.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { define, pass, problem, settle, world } from "./gateway.js";

class Page extends EventTarget {
  hidden = false;
  turn(hidden: boolean) {
    this.hidden = hidden;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

function page(hidden = false) {
  const [document, window] = [new Page(), new EventTarget()];
  document.hidden = hidden;
  define("document", document);
  define("window", window);
  return { document, window };
}

afterEach(() => {
  for (const name of ["document", "window"]) define(name, undefined);
  mock.timers.reset();
  mock.reset();
});

test("a page that is hidden for long has no stream, and one when it is shown", async () => {
  const { document } = page();
  const { client, streams } = world({ hiddenAfter: 5000 });
  await settle();
  document.turn(true);
  await pass(4000);
  assert.equal(client.state, "open");
  await pass(2000);
  assert.equal(client.state, "paused");
  document.turn(false);
  await settle();
  assert.deepEqual([client.state, streams.length], ["open", 2]);
});

test("so has one that was opened in the background", async () => {
  const { document } = page(true);
  const { client, streams } = world({ hiddenAfter: 5000 });
  await pass(6000);
  assert.equal(client.state, "paused");
  await pass(600_000, 10_000);
  assert.equal(streams.length, 1);
  document.turn(false);
  await settle();
  assert.equal(client.state, "open");
});

test("a pause that the gateway asked for outlasts one of the page", async () => {
  const { document, window } = page();
  const { client, answers, streams, states } = world({ hiddenAfter: 1000 });
  answers.push(problem(503, "Full.", { "retry-after": "20" }));
  await pass(2000);
  document.turn(true);
  await pass(3000);
  assert.equal(client.state, "paused");
  document.turn(false);
  await pass(2000);
  window.dispatchEvent(new Event("pagehide"));
  await settle();
  window.dispatchEvent(new Event("pageshow"));
  await pass(12_000);
  assert.deepEqual([client.state, streams.length], ["waiting", 0]);
  assert.deepEqual(states, ["connecting", "waiting 503", "paused", "waiting 503", "paused", "waiting 503"]);
  await pass(3000);
  assert.deepEqual([client.state, streams.length], ["open", 1]);
});

test("a pause that is over when the page goes on delays nothing", async () => {
  const { window } = page();
  const { client, answers } = world();
  answers.push(problem(503, "Full.", { "retry-after": "20" }));
  await pass(2000);
  window.dispatchEvent(new Event("pagehide"));
  await pass(30_000);
  assert.equal(client.state, "paused");
  window.dispatchEvent(new Event("pageshow"));
  await settle();
  assert.equal(client.state, "open");
});
