// The parser sees the same blocks wherever the bytes are split.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Block, parser } from "../src/parser.js";

/** The blocks of these pieces, each decoded as it comes. */
function read(...pieces: Uint8Array[]): Block[] {
  const blocks: Block[] = [];
  const feed = parser((block) => blocks.push(block));
  const decoder = new TextDecoder();
  for (const piece of pieces) feed(decoder.decode(piece, { stream: true }));
  return blocks;
}

const bytes = (text: string) => new TextEncoder().encode(text);
const filled = (blocks: Block[]) => blocks.filter((block) => Object.keys(block).length);

const STREAM = [
  "\u{feff}:connected\n\nid: 6f1c2a9b-1\n\n",
  "id: 6f1c2a9b-2\nevent: größe\ndata: {\"🦀\":\"ü\"}\n\n",
  "data\ndata:\r\ndata:  two spaces\rdata: a: b\n\r\n",
  ":heartbeat\n\nretry: 3000\n\nretry: 3s\n\nid: nul\0\ndata: no place\n\n",
  "id\ndata: x\n\rdata:crlf\r\n\r\ndata: not ended",
].join("");

const EXPECTED: Block[] = [
  { id: "6f1c2a9b-1" },
  { id: "6f1c2a9b-2", event: "größe", data: "{\"🦀\":\"ü\"}" },
  { data: "\n\n two spaces\na: b" },
  { retry: 3000 },
  { data: "no place" },
  { id: "", data: "x" },
  { data: "crlf" },
];

test("the letter of the format", () => {
  assert.deepEqual(filled(read(bytes(STREAM))), EXPECTED);
});

test("every split into three pieces, and into single bytes, reads the same", () => {
  const all = bytes(STREAM);
  for (let i = 0; i <= all.length; i++) {
    for (let j = i; j <= all.length; j++) {
      const seen = filled(read(all.slice(0, i), all.slice(i, j), all.slice(j)));
      assert.deepEqual(seen, EXPECTED, `split at ${i} and ${j}`);
    }
  }
  assert.deepEqual(filled(read(...[...all].map((byte) => Uint8Array.of(byte)))), EXPECTED);
});

test("a line that is no field is passed over, and a field's name counts as it is written", () => {
  assert.deepEqual(filled(read(bytes("data x\nData: y\ndata : z\n: data: w\n\n"))), []);
});
