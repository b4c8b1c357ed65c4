// One stream for all tabs of an origin. The tab that holds a lock has the stream and tells the others, in the order of
// the stream; when it goes, the browser gives the lock to the next, which goes on from the place that it knows.
//
// Each tab keeps its own place, and hands on only what is ahead of it. What is told names the place before it, so a tab
// that was asleep sees that it missed something, and asks the leader to go back to where it was.

// Beside the core, and not a second copy of it.
import { connect } from "./connect.js";
import { ahead, strange } from "./cursor.js";
import { tell } from "./tell.js";
import type { Connection, Detail, GatewayEvent, Options, ResetReason, State } from "./options.js";
import { followPage } from "./page.js";

/**
 * `followPage`, `hiddenAfter` are of no effect: the stream is there as long as a tab is awake. `listen` has to be
 * called in each tab.
 */
export interface SharedOptions extends Options {
  /**
   * Tabs with the same key, `url` and `topics` share a stream, whoever opened it: put the user into it, such as
   * `acme/alice`, or the next user of this browser sees the events of the one before.
   */
  key: string;
}

/** What tabs tell each other. `at`: the place of the leader's stream before it. */
type Message =
  | { of: "event"; at: string; event: GatewayEvent }
  | { of: "position"; at: string; id: string }
  | { of: "reset"; reason: ResetReason; to: readonly string[] | undefined }
  | { of: "state"; at: string; state: State; detail: Detail }
  /** A tab has come, misses something, or is shown; who, and, unless it is only shown, where it is. */
  | { of: "hello"; at: string; tab: string };

const isOver = (state: State) => ["complete", "refused", "closed"].includes(state);

/** Whether who is at `mine` misses something when it goes on from `at`. */
const misses = (mine: string, at: string) => strange(mine, at) || ahead(at, mine)! > 0;

/** As `connect`, with one stream for all tabs. Where the browser has no Web Locks, each tab has its own. */
export function connectShared(o: SharedOptions): Connection {
  const locks = globalThis.navigator?.locks;
  if (!locks || !globalThis.BroadcastChannel) return connect(o);
  const name = `sse-gateway ${JSON.stringify([o.url, o.key, [...(o.topics ?? [])].sort()])}`;
  const tab = crypto.randomUUID();
  let state: State = "connecting";
  /** The place of this tab. */
  let mine = o.lastEventId ?? "";
  /** That of the leader's stream, in the leader. */
  let at = "";
  let stream: Connection | undefined;
  let channel: BroadcastChannel | undefined;
  let leave = new AbortController();
  /** Tabs for which the stream went back. */
  let askers: string[] = [];
  /** Whether this tab waits for the leader to go back. */
  let asked = false;

  const set = (next: State, detail: Detail = {}) => {
    state = next;
    if (isOver(next)) {
      unfollow();
      depart();
    }
    tell(o.onState, next, detail);
  };

  const hello = (place = "") => {
    channel?.postMessage({ of: "hello", at: place, tab } satisfies Message);
    stream?.wake();
  };

  /** What the leader tells, in every tab. */
  const take = (message: Message) => {
    if (message.of === "reset") {
      if (message.to && !message.to.includes(tab)) return;
      mine = "";
      asked = false;
      tell(o.onReset, message.reason);
    } else if (message.of === "state") {
      mine ||= message.at;
      asked = false;
      if (isOver(state) || message.state === state) return;
      set(message.state, message.detail);
      // Timers of a hidden tab are late by up to a minute; what it is told is not.
      const { delay } = message.detail;
      if (delay && !stream && !document.hidden) setTimeout(() => hello(), delay);
    } else if (message.of === "hello") {
      meet(message.at, message.tab);
    } else if (misses(mine, message.at)) {
      if (!asked) hello(mine);
      asked = true;
    } else {
      asked = false;
      const id = message.of === "event" ? message.event.id : message.id;
      // An event without an id has no place: it comes once.
      const isNew = !id || !(ahead(id, mine)! <= 0);
      if (id && isNew) mine = id;
      if (message.of === "event" && isNew) tell(o.onEvent, message.event);
    }
  };

  const say = (message: Message) => {
    channel?.postMessage(message);
    take(message);
  };

  /** The leader hears of a tab. */
  const meet = (place: string, from: string) => {
    if (!stream) return;
    if (misses(place, at)) {
      askers.push(from);
      lead(place);
    } else {
      channel?.postMessage({ of: "state", at, state, detail: {} } satisfies Message);
      stream.wake();
    }
  };

  /** Has the stream of all tabs, from a place on. */
  const lead = (from: string) => {
    stream?.close();
    at = from;
    const before = () => {
      const place = at;
      at = current.lastEventId;
      if (!misses(at, mine)) askers = [];
      return place;
    };
    const current = connect({
      ...o,
      lastEventId: from,
      followPage: false,
      onEvent: (event) => say({ of: "event", at: before(), event }),
      onPosition: (id) => say({ of: "position", at: before(), id }),
      onReset: (reason) => {
        const to = askers.length && mine ? askers : undefined;
        askers = [];
        at = "";
        say({ of: "reset", reason, to });
        // Nobody else has a gap: the others go on from where they are.
        if (to) lead(mine);
      },
      onState: (next, { error: _, ...detail }) => {
        // Not every error can be told to another tab.
        if (stream === current && next !== "closed") say({ of: "state", at, state: next, detail });
      },
    });
    stream = current;
  };

  const join = () => {
    if (channel) return hello();
    leave = new AbortController();
    const { signal } = leave;
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }: MessageEvent<Message>) => take(data);
    const hold = () =>
      new Promise<void>((release) => {
        if (signal.aborted) return release();
        signal.onabort = () => release();
        lead(mine);
      });
    locks.request(name, { signal }, hold).catch((error: unknown) =>
      tell(() => {
        if (!signal.aborted) throw error;
      }),
    );
    hello(mine);
  };

  const depart = () => {
    stream?.close();
    stream = undefined;
    channel?.close();
    channel = undefined;
    leave.abort();
  };

  const unfollow = followPage(() => {
    depart();
    set("paused");
  }, join);
  join();
  return {
    get state() {
      return state;
    },
    get lastEventId() {
      return mine;
    },
    listen: (type) => stream?.listen(type),
    wake: () => hello(),
    close() {
      if (!isOver(state)) set("closed");
    },
  };
}
