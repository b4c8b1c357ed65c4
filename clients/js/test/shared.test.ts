// Tabs that share a stream: who has a place misses nothing in silence, whoever leads and whenever it came.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connectShared } from "../src/shared.js";
import { eventSources } from "./eventsource.js";
import { at, define, pass, settle } from "./gateway.js";
import { browser } from "./tabs.js";

const reset = (reason: string) => `event: reset\ndata: {"reason":"${reason}"}\n\n`;

test("tabs share one stream, and each sees each event once, whoever leads", async () => {
  const { open, streams, leads } = browser();
  const [one, two, three] = [await open("one"), await open("two"), await open("three")];
  await streams[0]!.write(`id: ${at(1)}\n\n`);
  await streams[0]!.event(2);
  one.client.close();
  await settle();
  await streams[1]!.event(2);
  await streams[1]!.event(3);
  assert.deepEqual([one.told, two.told, three.told], [["2"], ["2", "3"], ["2", "3"]]);
  assert.deepEqual(leads(), ["one new", `two ${at(2)}`]);
  assert.deepEqual(three.states, ["open", "connecting", "open"]);
  assert.equal(three.client.lastEventId, at(3));
});

test("each tab is told of places without an event, once", async () => {
  const { open, streams } = browser();
  const [one, two]: string[][] = [[], []];
  await open("one", { onPosition: (id) => one!.push(id) });
  await open("two", { onPosition: (id) => two!.push(id) });
  await streams[0]!.write(`id: ${at(1)}\n\nid: ${at(1)}\n\nid: ${at(4)}\n\n`);
  assert.deepEqual([one, two], [[at(1), at(4)], [at(1), at(4)]]);
});

test("a leader that has no place yet goes back to that of a tab that comes with one", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  const two = await open("two", { lastEventId: at(5) });
  assert.deepEqual(leads(), ["one new", `one ${at(5)}`]);
  for (const sequence of [6, 7]) await streams[1]!.event(sequence);
  assert.deepEqual([one.told, two.told], [["6", "7"], ["6", "7"]]);
});

test("a tab whose hello nobody heard asks again when the stream shows its first place", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  const two = await open("two");
  // It comes while nobody listens, and keeps its place.
  one.channel.hangs = true;
  const three = await open("three", { lastEventId: at(5) });
  one.channel.lose();
  await streams[0]!.write(`id: ${at(8)}\n\n`);
  assert.deepEqual(leads(), ["one new", `one ${at(5)}`]);
  for (const sequence of [6, 7, 8, 9]) await streams[1]!.event(sequence);
  assert.deepEqual([one.told, two.told, three.told], [["9"], ["9"], ["6", "7", "8", "9"]]);
});

test("a gap behind the place of one tab is told to that tab alone", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  const two = await open("two");
  await streams[0]!.event(50);
  const three = await open("three", { lastEventId: at(5) });
  await streams[1]!.write(reset("expired"));
  assert.deepEqual(leads(), ["one new", `one ${at(5)}`, `one ${at(50)}`]);
  await streams[2]!.event(51);
  assert.deepEqual([one.told, two.told, three.told], [["50", "51"], ["50", "51"], ["reset: expired", "51"]]);
});

test("a place that is none is told as a gap, whoever came with it", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  await streams[0]!.event(1);
  const two = await open("two", { lastEventId: "none" });
  await streams[1]!.write(reset("invalid"));
  assert.deepEqual([one.told, two.told], [["1"], ["reset: invalid"]]);
  assert.deepEqual(leads().slice(1), ["one none", `one ${at(1)}`]);
  await streams[2]!.event(2);
  assert.deepEqual([one.told, two.told], [["1", "2"], ["reset: invalid", "2"]]);
});

test("a gap of the stream is told to all once, and to who comes before it has a place again", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  const two = await open("two");
  await streams[0]!.event(1);
  await streams[0]!.write(reset("epoch"));
  const three = await open("three", { lastEventId: at(1) });
  await streams[0]!.write("id: 0000000b-7\n\nid: 0000000b-8\ndata: new\n\n");
  assert.deepEqual([one.told, two.told], [["1", "reset: epoch", "new"], ["1", "reset: epoch", "new"]]);
  assert.deepEqual(three.told, ["reset: epoch", "new"]);
  assert.deepEqual(leads(), ["one new"], "nobody had to go back");
});

test("places of two lives of the log do not chase each other", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one", { lastEventId: "0000000b-5" });
  const two = await open("two", { lastEventId: at(9) });
  await streams[1]!.event(10);
  assert.deepEqual(leads(), ["one 0000000b-5", `one ${at(9)}`, "one 0000000b-5"]);
  await streams[2]!.write(`${reset("epoch")}id: ${at(10)}\n\n`);
  await streams[2]!.event(11);
  assert.deepEqual(one.told, ["reset: epoch", "11"]);
  assert.equal(two.told.at(-1), "11");
  assert.equal(leads().length, 3);
});

test("a tab whose credential is refused ends alone, and the next leads", async () => {
  const { open, streams, answers, leads } = browser();
  const no = () => Response.json({ detail: "The token has been used." }, { status: 401 });
  const details: unknown[] = [];
  const one = await open("one", { onState: (state, { detail }) => details.push([state, detail]) });
  const two = await open("two");
  await streams[0]!.event(1);
  answers.push(no(), no());
  await streams[0]!.cut();
  await pass(3000);
  assert.deepEqual(details.at(-1), ["refused", "The token has been used."]);
  assert.deepEqual([one.client.state, two.client.state], ["refused", "open"]);
  assert.ok(!two.states.some((state) => state.startsWith("refused")), `${two.states}`);
  await streams.at(-1)!.event(2);
  assert.deepEqual([two.told, leads().at(-1)], [["1", "2"], `two ${at(1)}`]);
});

test("a leader that hangs is replaced by a tab that is shown, and follows when it is back", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  const two = await open("two");
  await streams[0]!.event(1);
  for (let i = 0; i < 10; i++) {
    await pass(14_000);
    await streams[0]!.write(":heartbeat\n\n");
  }
  await streams[0]!.event(2);
  assert.deepEqual(leads(), ["one new"], "it answers each beat");
  one.channel.hangs = true;
  await pass(25_000);
  assert.deepEqual([leads().at(-1), two.client.state], [`two ${at(2)}`, "open"]);
  await streams.at(-1)!.event(3);
  one.channel.wakeUp();
  await settle();
  await streams.at(-1)!.event(4);
  assert.deepEqual([one.told, two.told], [["1", "2", "3", "4"], ["1", "2", "3", "4"]]);
  assert.equal(one.client.state, "open");
  two.client.close();
  await settle();
  assert.equal(leads().at(-1), `one ${at(4)}`, "it waits for its turn");
});

test("a tab that is hidden takes the stream from nobody", async () => {
  const { open, streams, leads } = browser();
  const one = await open("one");
  await open("two");
  await streams[0]!.event(1);
  define("document", { hidden: true });
  one.channel.hangs = true;
  await pass(40_000);
  assert.equal(leads().length, 1);
  define("document", { hidden: false });
  await pass(25_000);
  assert.equal(leads().at(-1), `two ${at(1)}`);
});

test("a leader that waits for its next attempt is not woken by the beats", async (t) => {
  const { open, streams, answers } = browser();
  const one = await open("one");
  await open("two");
  await streams[0]!.event(1);
  t.mock.method(Math, "random", () => 0.999);
  answers.push(...new Array<"cut">(20).fill("cut"));
  await streams[0]!.cut();
  // 1, 2, 4, 8, 16 and from then on 30 seconds.
  await pass(62_000);
  assert.equal(answers.length, 14);
  assert.equal(one.client.state, "waiting");
});

test("what one tab listens for is told to all, by whoever leads from when on", async () => {
  const { open } = browser();
  const sources = eventSources();
  const native = { transport: "eventsource" as const };
  const [one, two] = [await open("one", { ...native, types: ["a"] }), await open("two", { ...native, types: ["b"] })];
  two.client.listen("c");
  one.client.listen("d");
  await settle();
  assert.deepEqual(sources.at(-1)!.types().sort(), ["a", "b", "c", "d"]);
  sources.at(-1)!.send("c", "1", at(1));
  await settle();
  assert.deepEqual([one.told, two.told], [["c: 1"], ["c: 1"]]);
  const three = await open("three", { ...native, types: ["e"] });
  one.client.close();
  await settle();
  assert.deepEqual(sources.at(-1)!.types().sort(), ["b", "c", "e"], "of those that are left");
  sources.at(-1)!.send("e", "2", at(2));
  await settle();
  assert.deepEqual([two.told, three.told], [["c: 1", "e: 2"], ["e: 2"]]);
});

test("a type that is listened for before there is a stream is listened for", async () => {
  browser();
  const sources = eventSources();
  const client = connectShared({ key: "", url: "http://gateway/sse", getJwt: () => "jwt", transport: "eventsource" });
  client.listen("a");
  await settle();
  sources[0]!.fail();
  await pass(2000);
  assert.deepEqual(sources.map((source) => source.types()), [["a"], ["a"]]);
  client.close();
});

test("a completed stream is the end in all tabs", async () => {
  const { open, streams } = browser();
  const tabs = [await open("one"), await open("two")];
  await streams[0]!.write(`id: ${at(7)}-end\ndata: done\n\n`);
  await pass(60_000);
  for (const { told, client } of tabs) assert.deepEqual([told, client.state], [["done"], "complete"]);
  assert.equal(streams.length, 1);
});

test("without Web Locks, and where they are denied, each tab has a stream of its own", async () => {
  for (const take of ["nothing", "locks", "channels"]) {
    const { open, streams, locks } = browser();
    if (take === "nothing") define("navigator", {});
    if (take === "locks") locks.denied = new DOMException("sandboxed", "SecurityError");
    if (take === "channels") {
      define("BroadcastChannel", class {
        constructor() {
          throw new DOMException("no storage", "SecurityError");
        }
      });
    }
    const tabs = [await open("one"), await open("two")];
    assert.equal(streams.length, 2, take);
    for (const stream of streams) await stream.event(1);
    for (const { client } of tabs) client.wake();
    await settle();
    for (const { told, states } of tabs) {
      assert.deepEqual([told, states.filter((state) => state !== "connecting")], [["1"], ["open"]], take);
    }
    assert.equal(streams.length, 2, take);
    for (const { client } of tabs) client.close();
  }
});

test("a wrong declaration is told at once", () => {
  const { open } = browser();
  return assert.rejects(open("one", { getJwt: undefined! }), /getJwt/);
});
