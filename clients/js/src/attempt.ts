// One attempt: a fresh credential, one request, one stream until its end. Says how it ended, and decides nothing.
//
// The stream is read by fetch unless the application chose EventSource: fetch sees each byte, the status and
// `Retry-After`, and can send `Authorization`; EventSource sees nothing of these.

import { retryAfter } from "./backoff.js";
import type { Options } from "./options.js";
import { type Block, parser } from "./parser.js";

/** How an attempt ended. */
export interface Outcome {
  /** 0 without a usable answer, -1 when EventSource was refused and can not say how. */
  status: number;
  /** Milliseconds that the gateway asked for. */
  pause?: number;
  /** What the gateway said is wrong. */
  detail?: string;
  error?: unknown;
}

/** Told what happens during an attempt. */
export interface Sink {
  /** Blocks will come, though none has. */
  opened(): void;
  /** There is progress: silence counts from now on. */
  heard(): void;
  block(block: Block): void;
  /** How to listen for one more type. */
  listener?: (type: string) => void;
}

export interface Place {
  lastEventId: string;
  refused: boolean;
  /** By the browser's EventSource. */
  native: boolean;
  types: Iterable<string>;
}

/** How long EventSource may have been open without an event before it counts as that: it may have been sent away. */
const QUIET = 1000;

async function answered(answer: Response): Promise<Outcome> {
  const { status, headers } = answer;
  // A problem (RFC 9457), unless something in between answered.
  const problem = await answer.json().catch(() => 0);
  return { status, pause: retryAfter(headers), detail: problem?.detail };
}

export async function attempt(o: Options, place: Place, signal: AbortSignal, sink: Sink): Promise<Outcome> {
  const { refused, native } = place;
  const url = o.url.replace(/\/$/, "");
  const headers: Record<string, string> = {};
  const query = new URLSearchParams({ heartbeat: native ? "event" : "comment" });
  const cookie = o.mode === "cookie";
  if (o.getToken) {
    const token = await o.getToken({ refused });
    if (!token) return { status: 401 };
    query.set("token", token);
  } else if (!cookie) {
    const jwt = await o.getJwt!({ refused });
    if (!jwt) return { status: 401 };
    headers.Authorization = `Bearer ${jwt}`;
  }
  if (signal.aborted) return { status: 0 };
  sink.heard();
  if (!o.getToken && !cookie && o.mode !== "bearer") {
    const answer = await fetch(`${url}/token`, { method: "POST", headers, signal });
    if (!answer.ok) return answered(answer);
    query.set("token", (await answer.json()).token);
    delete headers.Authorization;
    sink.heard();
  }
  if (o.topics?.length) query.set("topics", o.topics.join());
  if (place.lastEventId) query.set("lastEventId", place.lastEventId);
  const stream = `${url}/stream?${query}`;
  if (native) return listen(stream, cookie, place.types, signal, sink);
  const credentials = cookie ? "include" : "same-origin";
  return read(await fetch(stream, { headers, signal, credentials, cache: "no-store" }), signal, sink);
}

async function read(answer: Response, signal: AbortSignal, sink: Sink): Promise<Outcome> {
  if (answer.status !== 200) return answered(answer);
  // A page of somebody else's, such as that of a hotel's network.
  if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) return { status: 0 };
  sink.heard();
  const feed = parser((block) => signal.aborted || sink.block(block));
  const decoder = new TextDecoder();
  const reader = answer.body!.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { status: 200 };
    sink.heard();
    feed(decoder.decode(value, { stream: true }));
  }
}

/** By EventSource, whose own reconnecting is of no use: it would present the same token again. */
function listen(url: string, withCredentials: boolean, types: Iterable<string>, signal: AbortSignal, sink: Sink) {
  return new Promise<Outcome>((resolve) => {
    const source = new EventSource(url, { withCredentials });
    const end = (status: number) => {
      source.close();
      resolve({ status });
    };
    signal.addEventListener("abort", () => end(0));
    source.onopen = () => {
      sink.heard();
      setTimeout(sink.opened, QUIET);
    };
    // An event of type `error` has data.
    source.onerror = (event) => "data" in event || end(source.readyState === 2 ? -1 : 0);
    const hear = ({ type, data, lastEventId }: MessageEvent) => {
      // Who listens for `open` means the gateway's, not the browser's.
      if (data === undefined) return;
      sink.heard();
      // What tells a gap has no id; the browser shows the one before.
      sink.block(type === "reset" ? { event: type, data } : { event: type, data, id: lastEventId });
    };
    sink.listener = (type) => source.addEventListener(type, hear);
    for (const type of new Set(["message", "heartbeat", "reset", ...types])) sink.listener(type);
  });
}
