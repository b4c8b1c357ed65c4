// Tabs of one browser in the test's hand: its locks, its channels, and one gateway for all.

import { afterEach, mock } from "node:test";
import { type SharedOptions, connectShared } from "../src/shared.js";
import type { Connection } from "../src/options.js";
import { define, gateway, settle } from "./gateway.js";

/** Messages reach the others in turn, unless a tab hangs: then they wait for it. */
class Channel {
  static open: Channel[] = [];
  onmessage: ((event: { data: unknown }) => void) | null = null;
  hangs = false;
  #waiting: unknown[] = [];
  constructor(readonly name: string) {
    Channel.open.push(this);
  }
  postMessage(message: unknown) {
    if (this.hangs) return;
    for (const other of Channel.open) {
      if (other === this || other.name !== this.name) continue;
      const data = structuredClone(message);
      queueMicrotask(() => other.#receive(data));
    }
  }
  close() {
    Channel.open = Channel.open.filter((channel) => channel !== this);
    this.onmessage = null;
  }
  wakeUp() {
    this.hangs = false;
    for (const data of this.#waiting.splice(0)) this.#receive(data);
  }
  /** What waited was lost, as while no tab led. */
  lose() {
    this.#waiting = [];
    this.wakeUp();
  }
  #receive(data: unknown) {
    if (this.hangs) this.#waiting.push(data);
    else this.onmessage?.({ data });
  }
}

type Hold = () => Promise<void>;
interface Request {
  hold: Hold;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Web Locks, as far as one lock takes them: a queue, who waits no longer, and who takes it by force. */
class Locks {
  held: Request | undefined;
  waiting: Request[] = [];
  /** Why there are none. */
  denied: Error | undefined;
  request(_name: string, { signal, steal }: { signal?: AbortSignal; steal?: boolean }, hold: Hold) {
    return new Promise<void>((resolve, reject) => {
      if (this.denied) return reject(this.denied);
      if (signal && steal) return reject(new TypeError("no signal beside steal"));
      const request = { hold, resolve, reject };
      if (steal) {
        this.held?.reject(new DOMException("stolen", "AbortError"));
        return this.#grant(request);
      }
      signal?.addEventListener("abort", () => {
        if (!this.waiting.includes(request)) return;
        this.waiting = this.waiting.filter((other) => other !== request);
        reject(signal.reason);
      });
      this.waiting.push(request);
      queueMicrotask(() => this.held ?? this.#grant(this.waiting.shift()));
    });
  }
  #grant(request: Request | undefined) {
    this.held = request;
    request?.hold().then(() => {
      request.resolve();
      if (this.held === request) this.#grant(this.waiting.shift());
    });
  }
}

export interface Tab {
  client: Connection;
  told: string[];
  states: string[];
  /** The channel that it has had first. */
  channel: Channel;
}

/** A browser with a gateway, and time that stands still. Tabs present `jwt-` and their name. */
export function browser() {
  const world = gateway();
  const locks = new Locks();
  Channel.open = [];
  define("navigator", { locks });
  define("BroadcastChannel", Channel);
  const open = async (name: string, options: Partial<SharedOptions> = {}): Promise<Tab> => {
    const [told, states]: string[][] = [[], []];
    const client = connectShared({
      key: "acme/alice",
      url: "http://gateway/sse",
      getJwt: () => `jwt-${name}`,
      onEvent: ({ type, data }) => told!.push(type === "message" ? data : `${type}: ${data}`),
      onReset: (reason) => told!.push(`reset: ${reason}`),
      onState: (state, { status }) => states!.push(status ? `${state} ${status}` : state),
      ...options,
    });
    opened.push(client);
    const channel = Channel.open.at(-1)!;
    await settle();
    return { client, told: told!, states: states!, channel };
  };
  /** Who opened each stream so far, and from where. */
  const leads = () => {
    let who = "";
    const found: string[] = [];
    for (const { url, authorization } of world.requests) {
      if (authorization) who = authorization.replace("Bearer jwt-", "");
      else found.push(`${who} ${url.searchParams.get("lastEventId") ?? "new"}`);
    }
    return found;
  };
  return { ...world, locks, open, leads };
}

const opened: Connection[] = [];

afterEach(() => {
  for (const client of opened.splice(0)) client.close();
  for (const name of ["document", "window", "navigator"]) define(name, undefined);
  mock.timers.reset();
  mock.reset();
});
