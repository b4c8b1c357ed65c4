// Delays are spread over all up to their ceiling, and what a server asks for is kept, within reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import { jittered, retryAfter, within } from "../src/backoff.js";
import { ahead } from "../src/cursor.js";

const headers = (value: string, more = {}) => new Headers({ "retry-after": value, ...more });

test("10,000 clients that lost their stream together come back evenly over the ceiling", () => {
  for (const [failures, ceiling] of [[0, 1000], [3, 8000], [20, 30_000], [5000, 30_000]] as const) {
    const tenths = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const delay = jittered(1000, 30_000, failures);
      assert.ok(delay >= 0 && delay < ceiling, `${delay} of ${ceiling}`);
      tenths[Math.floor((delay / ceiling) * 10)]!++;
    }
    // A thousand each, give or take seven standard deviations.
    assert.ok(tenths.every((count) => Math.abs(count - 1000) < 210), `${tenths}`);
  }
});

test("a base that the gateway asked for counts beyond the longest delay", () => {
  const delays = Array.from({ length: 1000 }, () => jittered(60_000, 30_000, 4));
  assert.ok(Math.max(...delays) > 50_000 && Math.max(...delays) < 60_000);
});

test("nobody comes back at once, whatever base was asked for", () => {
  for (const [base, max] of [[0, 30_000], [0, 0]] as const) {
    for (const failures of [0, 1, 50]) {
      const delays = Array.from({ length: 1000 }, () => jittered(base, max, failures));
      assert.ok(Math.max(...delays) > 90, `${base}, ${max}, ${failures}: ${Math.max(...delays)}`);
    }
  }
});

test("Retry-After is seconds or a date, read by the server's clock", () => {
  assert.equal(retryAfter(headers("7")), 7000);
  const [date, later] = ["Sat, 01 Jan 2000 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:09 GMT"];
  assert.equal(retryAfter(headers(later, { date })), 9000);
  assert.equal(retryAfter(headers(date, { date: later })), 0, "in the past");
  const soon = retryAfter(headers(new Date(Date.now() + 60_000).toUTCString()));
  assert.ok(soon > 55_000 && soon <= 60_000, `${soon}`);
  for (const none of ["", "soon", "-5"]) assert.equal(retryAfter(headers(none)), 0, none);
  assert.equal(retryAfter(new Headers()), 0);
});

test("nobody is sent away for more than an hour", () => {
  assert.equal(retryAfter(headers("99999999999")), 3_600_000);
  assert.equal(within(2 ** 40), 3_600_000);
  assert.equal(within(3000), 3000);
});

test("places are compared within one life of the log", () => {
  assert.equal(ahead("0000000a-12", "0000000a-9"), 3);
  assert.equal(ahead("0000000a-9-end", "0000000a-9"), 0);
  assert.equal(ahead("0000000b-12", "0000000a-9"), undefined);
  assert.equal(ahead("0000000a-1", ""), undefined);
});
