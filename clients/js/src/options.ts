// What the application says and is told. Every wait is in milliseconds.

/** An event, as it was published. */
export interface GatewayEvent {
  /** The event type; `message` when the publisher gave none. */
  readonly type: string;
  readonly data: string;
  /** The place in the log after this event; empty for an event that has none. */
  readonly id: string;
}

/** Why events are missing: the cursor is older than the log, of another life of the log, or none at all. */
export type ResetReason = "expired" | "epoch" | "invalid";

/**
 * `connecting`: an attempt is under way. `open`: events arrive. `waiting`: for the next attempt. `paused`: the page is
 * frozen, put away or long hidden. And the ends: `complete`: the publisher ended the stream. `refused`: the gateway
 * will not have this client. `closed`: by `close()`.
 */
export type State = "connecting" | "open" | "waiting" | "paused" | "complete" | "refused" | "closed";

/** What is known of the last attempt when the state changes. */
export interface Detail {
  /** The answer's status; 0 without a usable one. */
  readonly status?: number;
  /** What the gateway said is wrong: the `detail` of its problem (RFC 9457). */
  readonly detail?: string;
  /** What the attempt threw: the network's error, or that of `getJwt` or `getToken`. */
  readonly error?: unknown;
  /** Milliseconds until the next attempt. */
  readonly delay?: number;
}

/** Told to `getJwt` and `getToken`. */
export interface Wanted {
  /** The last one was refused, or its stream was ended soon after it opened: a cached one will not do. */
  readonly refused: boolean;
}

type Credential = string | null | undefined;

export interface Options {
  /** Where the gateway is, up to its `basePath`: `/api/v1/sse`, or `https://live.example.com/api/v1/sse`. */
  url: string;
  /** The JWT: it is exchanged for a token at `POST {url}/token`, or sent itself (`mode: "bearer"`). None: signed out. */
  getJwt?: (wanted: Wanted) => Credential | Promise<Credential>;
  /** Instead of `getJwt`: a fresh single-use token that the application has minted itself. */
  getToken?: (wanted: Wanted) => Credential | Promise<Credential>;
  /** How the stream is authorised: by a token in the query (the default), by `Authorization`, or by a cookie. */
  mode?: "token" | "bearer" | "cookie";
  topics?: readonly string[];
  /** Where to go on from, if the application has kept a place. */
  lastEventId?: string;
  onEvent?: (event: GatewayEvent) => void;
  /** There is a gap: reload what the events were to keep up to date. */
  onReset?: (reason: ResetReason) => void;
  onState?: (state: State, detail: Detail) => void;
  /** The place moved on without an event for this client. */
  onPosition?: (id: string) => void;
  /** `fetch` (the default) or the browser's own `EventSource`, which needs `types`. */
  transport?: "fetch" | "eventsource";
  /** With `eventsource`: the event types to listen for, beside `message`. */
  types?: Iterable<string>;
  /** Longest of the first delay; it doubles with each attempt. `retry:` of the gateway replaces it. 1000. */
  minDelay?: number;
  /** Longest delay. 30000. */
  maxDelay?: number;
  /**
   * The gateway's heartbeat interval, which it has to match: three without a byte, and the stream is opened anew; one
   * without a credential or an answer, and the attempt is repeated. 15000.
   */
  heartbeat?: number;
  /** Close the stream when the page has been hidden for so long, and open it when it is shown. 0: never. */
  hiddenAfter?: number;
  /** Whether to sleep and wake with the page. True. */
  followPage?: boolean;
}

export interface Connection {
  readonly state: State;
  /** The place to come back to. */
  readonly lastEventId: string;
  /** Listens for one more event type: `EventSource` hands on no other. */
  listen(type: string): void;
  /** Makes the next attempt now, unless the gateway asked for a pause. */
  wake(): void;
  close(): void;
}
