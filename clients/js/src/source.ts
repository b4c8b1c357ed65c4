// The connection as an EventSource: for code that was written for one.

import { connect } from "./connect.js";
import type { Connection, Options } from "./options.js";

type Handler<E extends Event> = ((event: E) => void) | null;

/**
 * Behaves as `EventSource` does, but comes back by itself from whatever passes, each time with a fresh credential.
 * `open` and `error` tell of each coming and going, and `readyState` whether it will come back. A gap is an event of
 * type `reset`.
 */
export class GatewayEventSource extends EventTarget {
  onopen: Handler<Event> = null;
  onmessage: Handler<MessageEvent> = null;
  onerror: Handler<Event> = null;
  readonly url: string;
  readonly withCredentials: boolean;
  #connection: Connection;

  constructor(url: string, options: Omit<Options, "url" | "onEvent" | "onReset">) {
    super();
    this.url = url;
    this.withCredentials = options.mode === "cookie";
    this.#connection = connect({
      ...options,
      url,
      onEvent: ({ type, data, id }) => this.#hand(type, data, id),
      onReset: (reason) => this.#hand("reset", JSON.stringify({ reason }), ""),
      onState: (state, detail) => {
        options.onState?.(state, detail);
        if (state === "open") this.#tell(new Event("open"), this.onopen);
        else if (state !== "connecting" && state !== "closed") this.#tell(new Event("error"), this.onerror);
      },
    });
  }

  /** 0 while there is no stream but will be, 1 with one, 2 when there will be none. */
  get readyState(): number {
    const { state } = this.#connection;
    return state === "open" ? 1 : ["connecting", "waiting", "paused"].includes(state) ? 0 : 2;
  }

  get lastEventId(): string {
    return this.#connection.lastEventId;
  }

  override addEventListener(
    type: string,
    listener: ((event: MessageEvent) => void) | EventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void {
    this.#connection.listen(type);
    super.addEventListener(type, listener as EventListener, options);
  }

  close(): void {
    this.#connection.close();
  }

  #hand(type: string, data: string, lastEventId: string) {
    const origin = new URL(this.url, globalThis.location?.href).origin;
    const event = new MessageEvent(type, { data, lastEventId, origin });
    this.#tell(event, type === "message" ? this.onmessage : null);
  }

  #tell<E extends Event>(event: E, handler: Handler<E>) {
    handler?.call(this, event);
    this.dispatchEvent(event);
  }
}
