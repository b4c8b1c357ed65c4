// The connection as an EventSource: for code that was written for one.

import { connect } from "./connect.js";
import type { Connection, Options } from "./options.js";
import { tell } from "./tell.js";

type Handler<E extends Event> = ((this: EventSource, event: E) => unknown) | null;

type Of<K> = K extends keyof EventSourceEventMap ? EventSourceEventMap[K] : MessageEvent;
type Listener<K> = ((this: EventSource, event: Of<K>) => unknown) | EventListenerObject | null;

/**
 * Behaves as `EventSource` does, but comes back by itself from whatever passes, each time with a fresh credential.
 * `open` and `error` tell of each coming and going, and `readyState` whether it will come back. A gap is an event of
 * type `reset`.
 */
export class GatewayEventSource extends EventTarget implements EventSource {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSED = 2;
  readonly url: string;
  readonly withCredentials: boolean;
  #connection: Connection;
  #handlers = new Map<string, Handler<never>>();

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
        tell(options.onState, state, detail);
        if (state === "open") this.dispatchEvent(new Event("open"));
        else if (state !== "connecting" && state !== "closed") this.dispatchEvent(new Event("error"));
      },
    });
  }

  /** 0 while there is no stream but will be, 1 with one, 2 when there will be none. */
  get readyState(): number {
    const { state } = this.#connection;
    if (state === "open") return this.OPEN;
    return ["connecting", "waiting", "paused"].includes(state) ? this.CONNECTING : this.CLOSED;
  }

  get lastEventId(): string {
    return this.#connection.lastEventId;
  }

  get onopen(): Handler<Event> {
    return this.#handler("open");
  }
  set onopen(handler: Handler<Event>) {
    this.#handle("open", handler);
  }

  get onmessage(): Handler<MessageEvent> {
    return this.#handler("message");
  }
  set onmessage(handler: Handler<MessageEvent>) {
    this.#handle("message", handler);
  }

  get onerror(): Handler<Event> {
    return this.#handler("error");
  }
  set onerror(handler: Handler<Event>) {
    this.#handle("error", handler);
  }

  override addEventListener<K extends string>(
    type: K,
    listener: Listener<K>,
    options?: boolean | AddEventListenerOptions,
  ): void {
    this.#connection.listen(type);
    super.addEventListener(type, listener as EventListener, options);
  }

  override removeEventListener<K extends string>(
    type: K,
    listener: Listener<K>,
    options?: boolean | EventListenerOptions,
  ): void {
    super.removeEventListener(type, listener as EventListener, options);
  }

  close(): void {
    this.#connection.close();
  }

  #hand(type: string, data: string, lastEventId: string) {
    const origin = new URL(this.url, globalThis.location?.href).origin;
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId, origin }));
  }

  #handler<E extends Event>(type: string): Handler<E> {
    return (this.#handlers.get(type) as Handler<E> | undefined) ?? null;
  }

  /** A handler is a listener from when it is first set, and keeps its turn when another takes its place. */
  #handle(type: string, handler: Handler<never>) {
    const before = this.#handlers.get(type);
    this.#handlers.set(type, handler);
    if (handler && !before) super.addEventListener(type, this.#call);
    if (!handler && before) super.removeEventListener(type, this.#call);
  }

  #call = (event: Event) => this.#handler(event.type)?.call(this, event);
}
