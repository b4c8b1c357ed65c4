// One stream for all tabs of an origin. The tab that holds a lock has the stream and tells the others, in the order of
// the stream; when it goes, the next goes on from the place that it knows.
//
// Each tab keeps its own place, and hands on only what is ahead of it. What is told names the place before it, so a tab
// that was asleep, or came with a place of its own, sees that it missed something, and asks the leader to go back there.

// Beside the core, and not a second copy of it.
import { check, connect } from "./connect.js";
import { ahead } from "./cursor.js";
import { type Turn, queue } from "./lock.js";
import { type Asked, type Told, misses } from "./messages.js";
import { tell } from "./tell.js";
import type { Connection, Detail, Options, ResetReason, State } from "./options.js";
import { followPage } from "./page.js";

/**
 * `followPage`, `hiddenAfter` are of no effect: the stream is there as long as a tab is awake. What one tab listens for
 * all are told.
 */
export interface SharedOptions extends Options {
  /**
   * Tabs with the same key, `url` and `topics` share a stream, whoever opened it: put the user into it, such as
   * `acme/alice`, or the next user of this browser sees the events of the one before.
   */
  key: string;
}

/** Followers ask for a beat so often in a heartbeat interval, and take over when so many were not answered. */
const BEATS = 3;

const isOver = (state: State) => ["complete", "refused", "closed"].includes(state);

const isHidden = () => globalThis.document?.hidden;

/** As `connect`, with one stream for all tabs. Where the browser has no Web Locks, each tab has its own. */
export function connectShared(o: SharedOptions): Connection {
  const locks = globalThis.navigator?.locks;
  if (!locks || !globalThis.BroadcastChannel) return connect(o);
  check(o);
  const name = `sse-gateway ${JSON.stringify([o.url, o.key, [...(o.topics ?? [])].sort()])}`;
  const tab = crypto.randomUUID();
  const types = new Set(o.types);
  let state: State = "connecting";
  /** The place of this tab. */
  let mine = o.lastEventId ?? "";
  /** Whether this tab waits for the leader to go back. */
  let asked = false;
  /** Beats that the leader owes. */
  let owed = 0;
  let joined = false;
  let channel: BroadcastChannel | undefined;
  let turn: Turn | undefined;
  let beating: ReturnType<typeof setInterval> | undefined;

  // In the leader: the stream, where it is, the types that any tab wants, the tabs for which it went back, and why it has
  // no place, if all were told so.
  let stream: Connection | undefined;
  let at = "";
  const wanted = new Set(types);
  let askers: string[] = [];
  let lost: ResetReason | undefined;

  const post = (message: Told | Asked) => channel?.postMessage(message);

  const set = (next: State, detail: Detail = {}) => {
    state = next;
    if (isOver(next)) {
      unfollow();
      depart();
    }
    tell(o.onState, next, detail);
  };

  const hello = (place = "") => {
    post({ of: "hello", at: place, tab });
    stream?.wake();
  };

  /** Has the stream go back to where this tab is. */
  const goBack = () => {
    if (stream) {
      askers = [];
      lead(mine);
    } else if (!asked) {
      asked = true;
      hello(mine);
    }
  };

  /** What the leader tells, in every tab. */
  const take = (message: Told) => {
    owed = 0;
    if (message.of === "reset") {
      // Who has no place has been told already.
      if (message.to && !(mine && message.to.includes(tab))) return;
      mine = "";
      asked = false;
      tell(o.onReset, message.reason);
    } else if (message.of === "state") {
      asked = false;
      if (!stream) follow(message.at, message.types);
      if (message.state === state) {
        if (state === "open" && misses(mine, message.at)) goBack();
        return;
      }
      set(message.state, message.detail);
      // Timers of a hidden leader are late; what it is told is not.
      const { delay } = message.detail;
      if (delay && !stream && !isHidden()) setTimeout(() => hello(), delay);
    } else if (misses(mine, message.at)) {
      goBack();
    } else {
      asked = false;
      const id = message.of === "event" ? message.event.id : message.id;
      // An event without an id has no place: it comes once.
      const isNew = !id || !(ahead(id, mine)! <= 0);
      if (!isNew) return;
      mine = id || mine;
      if (message.of === "event") tell(o.onEvent, message.event);
      else tell(o.onPosition, id);
    }
  };

  /** A follower hears where the leader is, and what it listens for. */
  const follow = (place: string, known: readonly string[]) => {
    mine ||= place;
    const unknown = [...types].filter((type) => !known.includes(type));
    if (unknown.length) post({ of: "listen", types: unknown });
  };

  const say = (message: Told) => {
    post(message);
    take(message);
  };

  const now = (next: State, detail: Detail = {}): Told => ({ of: "state", at, state: next, detail, types: [...wanted] });

  const want = (more: readonly string[]) => {
    for (const type of more) {
      wanted.add(type);
      stream?.listen(type);
    }
  };

  /** The leader is asked. */
  const answer = (message: Asked) => {
    if (message.of === "listen") return want(message.types);
    if (message.of === "beat") return post(now(state));
    const { at: place, tab: from } = message;
    // What was told to all is so for this tab, too.
    if (place && !at && lost) return post({ of: "reset", reason: lost, to: [from] });
    if (misses(place, at)) {
      askers.push(from);
      lead(place);
    } else {
      post(now(state));
      stream!.wake();
    }
  };

  const hear = (message: Told | Asked) => {
    if (message.of === "hello" || message.of === "listen" || message.of === "beat") {
      if (stream) answer(message);
    } else if (!stream) {
      // Else it is of a leader that does not know yet that it is none any more.
      take(message);
    }
  };

  /** Has the stream of all tabs, from a place on. */
  const lead = (from: string) => {
    stream?.close();
    at = from;
    const before = (id: string) => {
      const place = at;
      at = id || at;
      if (id) lost = undefined;
      // The stream is where it was before it went back.
      if (!mine || ahead(at, mine)! >= 0) askers = [];
      return place;
    };
    const current = connect({
      ...o,
      types: wanted,
      lastEventId: from,
      followPage: false,
      onEvent: (event) => say({ of: "event", at: before(event.id), event }),
      onPosition: (id) => say({ of: "position", at: before(id), id }),
      onReset: (reason) => {
        const to = askers.length && mine ? askers : undefined;
        askers = [];
        at = "";
        if (!to) lost = reason;
        say({ of: "reset", reason, to });
        // Nobody else has a gap: the others go on from where they are.
        if (to) lead(mine);
      },
      onState: (next, { error, ...detail }) => {
        if (stream !== current || next === "closed") return;
        // It is this tab's credential that was refused. The next may have a better one.
        if (next === "refused") set(next, { error, ...detail });
        // Not every error can be told to another tab.
        else say(now(next, detail));
      },
    });
    stream = current;
  };

  const stop = () => {
    stream?.close();
    stream = undefined;
    askers = [];
    lost = undefined;
  };

  const alone = () => {
    channel?.close();
    channel = undefined;
    lead(mine);
  };

  const lose = () => {
    stop();
    hello(mine);
  };

  const beat = () => {
    if (stream || isHidden()) owed = 0;
    else if (owed++ < BEATS) post({ of: "beat" });
    else {
      owed = 0;
      turn?.take();
    }
  };

  const join = () => {
    if (joined) return hello();
    joined = true;
    owed = 0;
    try {
      channel = new BroadcastChannel(name);
    } catch {
      // As with locks: there is no storage, and so no other tab.
      return alone();
    }
    channel.onmessage = ({ data }: MessageEvent<Told | Asked>) => hear(data);
    beating = setInterval(beat, (o.heartbeat ?? 15_000) / BEATS);
    turn = queue(locks, name, { lead: () => lead(mine), lose, deny: alone });
    hello(mine);
  };

  const depart = () => {
    stop();
    joined = false;
    clearInterval(beating);
    channel?.close();
    channel = undefined;
    turn?.leave();
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
    listen(type) {
      types.add(type);
      want([type]);
      if (!stream) post({ of: "listen", types: [type] });
    },
    wake: () => hello(),
    close() {
      if (!isOver(state)) set("closed");
    },
  };
}
