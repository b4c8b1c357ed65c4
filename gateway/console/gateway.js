// The gateway, as one JWT may ask it. The JWT is in this closure alone: not in a storage, not in the document, not in a URL.

/** Milliseconds. An answer, and the pauses between attempts. */
const PATIENCE = 30_000;
const SHORTEST_PAUSE = 100;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15_000;

/** What the gateway answered instead, in its own words. */
class Refused extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    Object.assign(this, { status, retryAfter });
  }
}

/** Random bytes in hex. */
function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** UTF-8, in the form that `fetch` takes for the value of a header. */
function header(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function gatewayFor(jwt) {
  const authorization = { Authorization: `Bearer ${jwt}` };

  async function ask(path, options) {
    const answer = await fetch(path, { cache: "no-store", ...options });
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, problem.detail ?? `${answer.status} ${answer.statusText}`, answer.headers.get("retry-after"));
  }

  return {
    /** Whom the gateway takes this JWT for, and how its pods are. */
    async about() {
      const headers = { ...authorization, Accept: "application/json" };
      return (await ask(location.pathname, { headers, signal: AbortSignal.timeout(PATIENCE) })).json();
    },

    /** Publishes to a subject below the tenant. Answers the event's id, when the log has it. */
    async publish(about, subject, type, data) {
      const headers = { ...authorization, "Sse-Subject": subject, "Content-Type": "text/plain; charset=utf-8" };
      if (type) headers["Sse-Event"] = header(type);
      const signal = AbortSignal.timeout(PATIENCE);
      const answer = await ask(`${about.basePath}/events`, { method: "POST", headers, body: data, signal });
      return (await answer.json()).id;
    },

    /** Opens a stream as browsers do: a token that is good once, and the place to go on from. */
    async stream(about, topics, cursor, traceparent, signal) {
      const query = new URLSearchParams();
      const headers = { traceparent, Accept: "text/event-stream" };
      if (about.modes.includes("Token")) {
        const options = { method: "POST", headers: authorization, signal };
        query.set("token", (await (await ask(`${about.basePath}/token`, options)).json()).token);
      } else {
        Object.assign(headers, authorization);
      }
      if (topics) query.set("topics", topics);
      if (cursor) query.set("lastEventId", cursor);
      return ask(`${about.basePath}/stream?${query}`, { headers, signal });
    },
  };
}

/** Follows the stream until it is over, attempt after attempt. `on` is told of states and blocks. */
function follow(gateway, about, topics, on) {
  let cursor = "";
  let failures = 0;
  let pause = FIRST_PAUSE;
  /** How it ended. */
  let over = "";
  let away;
  let attempt = new AbortController();
  let wake = () => {};

  async function once() {
    attempt = new AbortController();
    const trace = hex(16);
    on.state("connecting");
    let heard = Date.now();
    let opened;
    // Three heartbeats may be missing.
    const silence = 3000 * about.heartbeatSeconds;
    const looking = setInterval(() => Date.now() - heard > silence && attempt.abort(), 1000);
    try {
      const answer = await gateway.stream(about, topics, cursor, `00-${trace}-${hex(8)}-01`, attempt.signal);
      if (answer.status === 204) return finish("complete");
      opened = Date.now();
      // What was asked for counted until now.
      pause = FIRST_PAUSE;
      on.state("open", { trace });
      const feed = parser(take);
      const [decoder, reader] = [new TextDecoder(), answer.body.getReader()];
      for (;;) {
        const { done, value } = await reader.read();
        if (done || over || away) return;
        heard = Date.now();
        feed(decoder.decode(value, { stream: true }));
      }
    } finally {
      // It was stable. One that ends as soon as it begins is a failure as any other.
      if (Date.now() - opened > 1000 * about.heartbeatSeconds) failures = 0;
      clearInterval(looking);
      attempt.abort();
    }
  }

  function take(found) {
    if (over || away) return;
    if (found.retry >= 0) pause = found.retry;
    if (found.id) cursor = found.id;
    on.block(found);
    if (found.id?.endsWith("-end")) finish("complete");
  }

  function finish(how, detail) {
    if (over) return;
    over = how;
    attempt.abort();
    wake();
    on.state(how, detail);
  }

  async function run() {
    while (!over) {
      if (away) {
        await away;
        away = undefined;
        continue;
      }
      let error;
      await once().catch((thrown) => (error = thrown));
      if (over) return;
      if (away) continue;
      if ([400, 401, 403, 404].includes(error?.status)) {
        finish("refused", { reason: error.message });
      } else {
        // Drawn from all up to a ceiling that doubles, so that clients which fell together come back apart.
        // `retry: 0` is meant for one return, and is none to a gateway in trouble.
        const base = failures ? Math.max(pause, FIRST_PAUSE) : pause;
        const drawn = Math.random() * Math.max(SHORTEST_PAUSE, Math.min(LONGEST_PAUSE, base * 2 ** failures++));
        const delay = drawn + 1000 * (Number(error?.retryAfter) || 0);
        on.state("waiting", { delay, reason: error instanceof Refused ? error.message : undefined });
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, delay);
        });
      }
    }
  }
  void run();

  return {
    get cursor() {
      return cursor;
    },
    get over() {
      return over;
    },
    /** Cuts the line, and comes back with the cursor when `meanwhile` is done. */
    async drop(meanwhile) {
      let back;
      away = new Promise((resolve) => (back = resolve));
      on.state("away");
      attempt.abort();
      wake();
      await meanwhile().finally(back);
    },
    close: () => finish("closed"),
  };
}
