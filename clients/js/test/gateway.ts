// A gateway in the test's hand: it answers `fetch` as it is told, one request after another.

import { mock } from "node:test";
import { type Options, connect } from "../src/index.js";

export const EPOCH = "0000000a";
export const at = (sequence: number) => `${EPOCH}-${sequence}`;

/** A stream that the test writes. It begins as the gateway's do, and ends when its request is aborted. */
export class Stream {
  #out!: ReadableStreamDefaultController<Uint8Array>;
  readonly response: Response;
  constructor(signal?: AbortSignal | null, begins = ":connected\n\n") {
    const body = new ReadableStream<Uint8Array>({ start: (out) => void (this.#out = out) });
    if (begins) this.#out.enqueue(new TextEncoder().encode(begins));
    signal?.addEventListener("abort", () => this.#out.error(signal.reason));
    this.response = new Response(body, { headers: { "content-type": "text/event-stream" } });
  }
  async write(text: string) {
    this.#out.enqueue(new TextEncoder().encode(text));
    await settle();
  }
  event(sequence: number, data = String(sequence)) {
    return this.write(`id: ${at(sequence)}\ndata: ${data}\n\n`);
  }
  async end() {
    this.#out.close();
    await settle();
  }
  async cut() {
    this.#out.error(new TypeError("network error"));
    await settle();
  }
}

type Answer = Response | "cut" | "silence" | undefined;

/** What the gateway says when it has no stream. */
export const problem = (status: number, detail = "No.", headers = {}) =>
  new Response(JSON.stringify({ status, detail }), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });

/** Lets everything run that waits for nothing but its turn. */
export async function settle() {
  for (let i = 0; i < 300; i++) await Promise.resolve();
}

/** What the clock shows, which can be set, and how long it has run. Timers go by the latter. */
export const clock = { now: 0, ran: 0 };

/** Lets time pass, in steps that let the client act in between. */
export async function pass(ms: number, step = 1000) {
  await settle();
  for (let left = ms; left > 0; left -= step) {
    const passed = Math.min(step, left);
    clock.now += passed;
    clock.ran += passed;
    mock.timers.tick(passed);
    await settle();
  }
}

export interface World {
  streams: Stream[];
  requests: { url: URL; method: string; authorization: string | null }[];
  /** What the next requests to the stream are answered, instead of a stream. */
  answers: Answer[];
  told: string[];
  states: string[];
}

/** Puts something of a browser into its place. */
export function define(name: string, value: unknown) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

/** Time stands still from now on, but for `pass`. */
export function standStill() {
  mock.reset();
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  Object.assign(clock, { now: Date.UTC(2030, 0), ran: 1000 });
  mock.method(Date, "now", () => clock.now);
  mock.method(performance, "now", () => clock.ran);
}

/** The gateway, in place of the network. */
export function gateway(): World {
  standStill();
  const world: World = { streams: [], requests: [], answers: [], told: [], states: [] };
  let minted = 0;
  globalThis.fetch = async (input, init) => {
    const url = new URL(String(input));
    const headers = new Headers(init?.headers);
    world.requests.push({ url, method: init?.method ?? "GET", authorization: headers.get("authorization") });
    if (url.pathname.endsWith("/token")) return Response.json({ token: `token${++minted}` });
    const answer = world.answers.shift();
    if (answer === "cut") throw new TypeError("network error");
    if (answer === "silence") {
      return new Promise((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
    }
    if (answer) return answer;
    const stream = new Stream(init?.signal);
    world.streams.push(stream);
    return stream.response;
  };
  return world;
}

/** A client of it. What it is told is `told`, as short as it gets. */
export function world(options: Partial<Options> = {}) {
  const world = gateway();
  const client = connect({
    url: "http://gateway/sse",
    getJwt: () => "jwt",
    onEvent: ({ type, data }) => world.told.push(type === "message" ? data : `${type}: ${data}`),
    onReset: (reason) => world.told.push(`reset: ${reason}`),
    onState: (state, { status }) => world.states.push(status ? `${state} ${status}` : state),
    ...options,
  });
  return { ...world, client, last: () => world.requests.at(-1)!.url.searchParams };
}
