// The browser's EventSource in the test's hand.

import { define } from "./gateway.js";

/** What every connection listens for. */
const ALWAYS = ["message", "heartbeat", "reset"];

export class Source extends EventTarget {
  onopen: (() => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  readyState = 0;
  #types = new Set<string>();
  constructor(
    readonly url: string,
    readonly options: EventSourceInit,
  ) {
    super();
  }
  override addEventListener(type: string, listener: EventListener) {
    this.#types.add(type);
    super.addEventListener(type, listener);
  }
  /** What it is listened for, beside what is always. */
  types() {
    return [...this.#types].filter((type) => !ALWAYS.includes(type));
  }
  /** The answer was 200. */
  open() {
    this.readyState = 1;
    this.onopen?.();
    this.dispatchEvent(new Event("open"));
  }
  send(type: string, data: string, lastEventId: string) {
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId }));
  }
  /** The stream ends, and would be asked for again; or, `refused`, not. */
  fail(refused = false) {
    this.readyState = refused ? 2 : 0;
    this.onerror?.(new Event("error"));
  }
  close() {
    this.readyState = 2;
  }
}

/** Puts it in the browser's place. Returns those that are made. */
export function eventSources(): Source[] {
  const made: Source[] = [];
  const Made = class extends Source {
    constructor(url: string, options: EventSourceInit) {
      super(url, options);
      made.push(this);
    }
  };
  define("EventSource", Made);
  return made;
}
