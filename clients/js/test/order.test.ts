// Whatever tabs do, and in whatever order: come, with a place or without, go, hang, wake up, lose their stream. Each sees
// what was published since it came, or since its place, once and in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Stream, at, pass, settle } from "./gateway.js";
import { type Tab, browser } from "./tabs.js";

const SEEDS = 25;
const STEPS = 60;

/** Numbers that are the same each time. */
function drawn(seed: number) {
  let state = seed * 7919;
  return () => (state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32;
}

/** A gateway that keeps a log, and replays what is asked for. */
function log() {
  const world = browser();
  const open = new Set<Stream>();
  const { fetch } = globalThis;
  let last = 10;
  globalThis.fetch = async (input, init) => {
    const before = world.streams.length;
    const answer = await fetch(input, init);
    const stream = world.streams[before];
    if (stream) {
      const [, place] = (new URL(String(input)).searchParams.get("lastEventId") ?? at(last)).split("-");
      void stream.write(`id: ${at(+place!)}\n\n`);
      for (let sequence = +place! + 1; sequence <= last; sequence++) void stream.event(sequence);
      open.add(stream);
      init?.signal?.addEventListener("abort", () => open.delete(stream));
    }
    return answer;
  };
  return {
    ...world,
    get last() {
      return last;
    },
    publish() {
      last++;
      for (const stream of open) void stream.event(last);
    },
    async cut() {
      const [stream] = open;
      if (stream) open.delete(stream);
      await stream?.cut();
    },
    /** Time passes, and quiet streams live. */
    async later() {
      await pass(7000);
      for (const stream of open) await stream.write(":heartbeat\n\n");
    },
  };
}

async function lives(seed: number) {
  const draw = drawn(seed);
  const gateway = log();
  let tabs: { name: string; tab: Tab; from: number | undefined }[] = [];
  let came = 0;
  for (let step = 0; step < STEPS; step++) {
    const chance = draw();
    const one = tabs[Math.floor(draw() * tabs.length)];
    if (chance < 0.2 && tabs.length < 5) {
      const from = draw() < 0.4 ? gateway.last - Math.floor(draw() * 8) : undefined;
      const name = `tab ${came++} of seed ${seed}`;
      tabs.push({ name, from, tab: await gateway.open(name, from ? { lastEventId: at(from) } : {}) });
    } else if (chance < 0.27 && one) {
      one.tab.client.close();
      tabs = tabs.filter((other) => other !== one);
    } else if (chance < 0.32 && one) {
      if (one.tab.channel.hangs) one.tab.channel.wakeUp();
      else one.tab.channel.hangs = true;
    } else if (chance < 0.4) {
      await gateway.cut();
    } else if (chance < 0.5) {
      await gateway.later();
    } else if (chance < 0.6) {
      await settle();
    } else {
      gateway.publish();
    }
  }
  for (const { tab } of tabs) tab.channel.wakeUp();
  for (let i = 0; i < 8; i++) await gateway.later();
  gateway.publish();
  await settle();
  for (const { name, tab, from } of tabs) {
    const first = from === undefined ? Number(tab.told[0]) : from + 1;
    const expected = Array.from({ length: gateway.last - first + 1 }, (_, i) => String(first + i));
    assert.deepEqual(tab.told, expected, `${name}, from ${from}; ${gateway.leads().join(", ")}`);
    tab.client.close();
  }
  await settle();
}

test("each tab sees each event once and in order, whatever tabs do", async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await lives(seed);
});
