// The connection: attempt after attempt until it is over, each event handed on once and in order.

import { type Outcome, type Sink, attempt } from "./attempt.js";
import { jittered, within } from "./backoff.js";
import { ahead } from "./cursor.js";
import type { Connection, Detail, Options, State } from "./options.js";
import { followPage } from "./page.js";
import type { Block } from "./parser.js";
import { tell } from "./tell.js";

/** Looks at the stream in each heartbeat interval, so that a laptop that slept notices soon. */
const LOOKS = 3;
/** Heartbeats that may be missing. An answer has to come within one. */
const PATIENCE = 3;

/**
 * Whether the request itself is wrong, and will be however often it is made. So is its address, but only if nobody ever
 * answered there: later it is a proxy that is being told anew where the gateway is.
 */
const isWrong = (status: number, first: boolean) =>
  [400, 413, 414, 431].includes(status) || (first && [404, 405].includes(status));

/** Throws when what is declared can not be done. */
export function check({ mode, transport, getJwt, getToken }: Options): void {
  if (mode === "bearer" && transport === "eventsource") throw new TypeError("EventSource can not send a Bearer");
  if (mode !== "cookie" && !getJwt && !(getToken && mode !== "bearer")) throw new TypeError("getJwt is missing");
}

export function connect(o: Options): Connection {
  check(o);
  const { minDelay = 1000, maxDelay = 30_000, heartbeat = 15_000 } = o;
  const native = o.transport === "eventsource";
  const types = new Set(o.types);
  let state: State = "connecting";
  let lastEventId = o.lastEventId ?? "";
  // What is not ahead of it was seen already; empty after a gap.
  let seen = lastEventId;
  let base = minDelay;
  let failures = 0;
  let refusals = 0;
  // The last stream was ended before it was stable, perhaps because its credential was about to end.
  let brief = false;
  let over = false;
  let paused = false;
  // EventSource was refused, and does not say how: fetch is to find out.
  let unseen = false;
  // No gateway has answered yet.
  let first = !lastEventId;
  // When the next attempt is due, by a clock that nobody sets; none: now. And until when the gateway wants none.
  let due = 0;
  let held = 0;
  let current = new AbortController();
  let sink: Sink | undefined;
  let resume = () => {};
  let lookAgain = () => {};

  const set = (next: State, detail: Detail = {}) => {
    state = next;
    tell(o.onState, next, detail);
  };

  const finish = (how: State, detail?: Detail) => {
    if (over) return;
    over = true;
    unfollow();
    current.abort();
    resume();
    set(how, detail);
  };

  /** One attempt, watched: silence ends it. */
  const run = async (): Promise<Outcome> => {
    current = new AbortController();
    const { signal } = current;
    const byFetch = !native || unseen;
    let heard = Date.now();
    let looks = 0;
    let silent = 0;
    const patience = () => (state === "open" ? PATIENCE : 1);
    // By the clock, which went on while the machine slept; and by looks, which no step of the clock can mislead.
    const look = () => {
      if (Date.now() - heard > patience() * heartbeat || silent > patience() * LOOKS) current.abort();
    };
    lookAgain = look;
    const timer = setInterval(() => {
      silent++;
      // It is stable.
      if (state === "open" && ++looks > LOOKS) failures = 0;
      look();
    }, heartbeat / LOOKS);
    sink = {
      heard() {
        heard = Date.now();
        silent = 0;
      },
      opened() {
        if (signal.aborted || state === "open") return;
        base = minDelay;
        refusals = 0;
        first = unseen = false;
        set("open");
      },
      block(block) {
        // What begins with `retry` is no stream: by cookie, that is how the gateway says 503.
        if (block.retry === undefined) sink!.opened();
        take(block, byFetch);
      },
    };
    const ended = new Promise<Outcome>((resolve) => (signal.onabort = () => resolve({ status: 0 })));
    const place = { lastEventId, refused: brief || refusals > 0, native: !byFetch, types };
    const attempted = attempt(o, place, signal, sink).catch((error: unknown) => ({ status: 0, error }));
    const outcome = await Promise.race([ended, attempted]);
    clearInterval(timer);
    current.abort();
    brief = outcome.status === 200 && looks <= LOOKS;
    return outcome;
  };

  const take = ({ id, event = "", data, retry }: Block, byFetch: boolean): void => {
    if (retry !== undefined) base = within(retry);
    if (event === "reset" && id === undefined) {
      seen = "";
      return tell(() => o.onReset?.(JSON.parse(data!).reason));
    }
    const isEvent = data !== undefined && (byFetch || event !== "heartbeat");
    if (id) {
      const by = ahead(id, seen);
      // EventSource shows the id of the event before on one that has none.
      if (isEvent && (byFetch ? by! <= 0 : by! < 0)) return;
      seen = lastEventId = id;
      if (!isEvent) tell(o.onPosition, id);
    }
    if (isEvent) tell(o.onEvent, { type: event || "message", data, id: id ?? "" });
    if (id?.endsWith("-end")) finish("complete");
  };

  const loop = async () => {
    // Whoever made it listens first.
    await null;
    let last: Detail = {};
    while (!over) {
      if (paused || due) {
        const delay = Math.max(due - performance.now(), 0);
        // Before it is told: whoever is told may wake it.
        const rest = new Promise<void>((resolve) => {
          const timer = paused ? 0 : setTimeout(() => resolve(void (due = 0)), delay);
          resume = () => resolve(clearTimeout(timer));
        });
        if (paused) set("paused");
        else set("waiting", { ...last, delay });
        await rest;
        continue;
      }
      set("connecting");
      const { pause = 0, ...outcome } = await run();
      held = performance.now() + pause;
      if (pause) due = held;
      if (over || paused) continue;
      last = outcome;
      const { status } = outcome;
      const refused = status === 401 || status === 403;
      unseen = status < 0;
      if (status === 204) finish("complete", outcome);
      else if (isWrong(status, first) || (refused && ++refusals > 1)) finish("refused", outcome);
      // After a second failure in a row the gateway is in trouble, and `retry: 0` was not meant for that.
      else due = held + jittered(failures ? Math.max(base, minDelay) : base, maxDelay, failures++);
      first &&= status <= 0;
    }
  };

  const connection: Connection = {
    get state() {
      return state;
    },
    get lastEventId() {
      return lastEventId;
    },
    listen(type) {
      types.add(type);
      sink?.listener?.(type);
    },
    wake() {
      const early = performance.now() < held;
      if (!early) due = 0;
      if (state === "open" || state === "connecting") lookAgain();
      else if (paused || !early) resume();
      paused = false;
    },
    close: () => finish("closed"),
  };
  const sleep = () => {
    paused = true;
    current.abort();
    resume();
  };
  const unfollow = o.followPage === false ? () => {} : followPage(sleep, connection.wake, o.hiddenAfter);
  void loop();
  return connection;
}
