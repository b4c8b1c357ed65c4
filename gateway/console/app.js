// The page: a session from a JWT to its end, the form that publishes, and what is shown of the gateway.

/** Milliseconds between two looks at the gateway. */
const LOOK_AT_PODS = 5000;

const STATES = {
  idle: ["Not connected", "quiet"],
  connecting: ["Connecting…", "busy"],
  open: ["Live", "good"],
  away: ["Dropped", "busy"],
  waiting: ["Coming back…", "busy"],
  refused: ["Refused", "bad"],
  complete: ["Complete", "quiet"],
  closed: ["Not connected", "quiet"],
};

const list = eventList();
let session;
/** When the next attempt is, while there is none. */
let waiting;

function show(state, detail = {}) {
  const [text, tone] = STATES[state];
  $("state").textContent = text;
  waiting = state === "waiting" ? Date.now() + detail.delay : undefined;
  $("pill").className = `pill ${tone}`;
  $("reason").textContent = detail.reason ?? "";
  $("reason").hidden = !detail.reason;
  const live = state === "open";
  $("drop").setAttribute("aria-disabled", !live);
  if (waiting) countDown();
  if (detail.trace) showTrace(detail.trace);
  if (["open", "waiting", "refused", "complete"].includes(state)) announce(`${text}. ${detail.reason ?? ""}`);
}

function showTrace(trace) {
  const { exported, url } = session.about.traces;
  $("trace").textContent = trace;
  const link = /^https?:/.test(url) && exported;
  $("trace-link").hidden = !link;
  if (link) $("trace-link").href = url.replace("{traceId}", trace);
  $("trace-note").hidden = exported;
}

async function connect(jwt, topics) {
  const gateway = gatewayFor(jwt);
  const about = await gateway.about();
  if (!about.modes.includes("Token") && !about.modes.includes("Bearer")) {
    throw new Error("This gateway takes streams by cookie alone (spec.auth.modes), which a page can not set from a JWT.");
  }
  session = { gateway, about };
  list.reset();
  $("proof").hidden = true;
  $("start").hidden = true;
  $("work").hidden = false;
  $("skip").href = "#events";
  $("leave").hidden = false;
  showIdentity();
  showGateway();
  const stream = follow(gateway, about, topics, {
    state(state, detail) {
      show(state, detail);
      if (state === "open") {
        $("jwt").value = "";
        tell();
        session.drops.opened();
      }
      if (state === "refused") end(detail.reason);
    },
    block(found) {
      const note = found.data === undefined ? undefined : session.drops.event(found);
      list.add(found, note);
      $("place").textContent = stream.cursor || "none";
    },
  });
  session.stream = stream;
  session.drops = dropping(gateway, about, stream);
  session.ticks = [setInterval(look, LOOK_AT_PODS), setInterval(countDown, 1000)];
  $("events-title").focus();
  const own = about.identity.user;
  $("name").value = own;
  showPublish();
}

/** Back to the start; the JWT goes with the session. */
function end(reason) {
  session.ticks.forEach(clearInterval);
  session.stream.close();
  session = undefined;
  $("work").hidden = true;
  $("start").hidden = false;
  $("leave").hidden = true;
  $("who").textContent = "";
  $("outage").hidden = true;
  $("skip").href = "#start";
  show(reason ? "refused" : "idle");
  fail(reason);
}

/** Says above the form why there is no session; nothing, when somebody left. */
function fail(reason) {
  tell(reason);
  $("jwt").focus();
}

function tell(reason = "") {
  $("refusal").textContent = reason;
  $("refusal").hidden = !reason;
  $("jwt").setAttribute("aria-invalid", Boolean(reason));
}

function showIdentity() {
  const { tenant, user, topics, publish } = session.about.identity;
  $("who").textContent = `${user} @ ${tenant}`;
  $("tenant").textContent = tenant;
  $("user").textContent = user;
  $("topics-granted").textContent = topics.join(", ") || "none by claim";
  $("publish-granted").textContent = publish.join(", ") || "nothing by claim";
  countDown();
}

function countDown() {
  if (waiting) $("state").textContent = `Coming back in ${Math.max(1, Math.ceil((waiting - Date.now()) / 1000))} s`;
  $("expires").textContent = left(session.about.identity.expires - Date.now() / 1000);
}

async function look() {
  if (document.hidden) return;
  const from = session;
  try {
    const about = await from.gateway.about();
    Object.assign(from.about, about);
    if (session === from) showGateway();
  } catch {
    if (session !== from) return;
    $("nats").textContent = "no answer";
    $("nats").className = "chip bad";
  }
}

function showGateway() {
  const { gateway, version, nats, pods, pod, limit } = session.about;
  $("gateway").textContent = `${gateway} ${version}`;
  $("nats").textContent = nats ? "NATS connected" : "NATS away";
  $("nats").className = `chip ${nats ? "good" : "bad"}`;
  $("outage").hidden = nats;
  const most = Math.max(...pods.map(({ streams }) => streams), 1);
  const rows = pods.map(({ name, streams }) => {
    const bar = el("span", { className: "bar" });
    bar.style.width = `${(100 * streams) / most}%`;
    const own = name === pod ? [" ", el("span", { className: "chip" }, "answered")] : [];
    return el("tr", {}, el("th", { scope: "row" }, name, ...own), el("td", { className: "track" }, bar), el("td", { className: "number" }, streams.toLocaleString("en")));
  });
  $("pods").replaceChildren(...rows);
  $("limit").textContent = `The pod that answered takes up to ${limit.toLocaleString("en")}.`;
}

function event() {
  const [target, name, type, data] = [$("target").value, $("name").value, $("type").value.trim(), $("data").value];
  const below = subjectOf(target, name);
  return { below, subject: `${session.about.subjects}.${below}`, url: `${location.origin}${session.about.basePath}/events`, type, data };
}

function showPublish() {
  if (!session) return;
  const target = $("target").value;
  $("name-field").hidden = target === "all";
  $("name-label").textContent = target === "topic" ? "Topic" : "User";
  const made = event();
  const { publish, identity } = session.about;
  const granted = identity.publish.some((grant) => covers(grant, made.below));
  const why = !publish ? "Publishing over HTTP is off (spec.publish.enabled). The lines below go through NATS."
    : granted ? "" : `The credential grants no event to ${made.below}. The lines below may.`;
  $("publish").setAttribute("aria-disabled", Boolean(why));
  $("publish-why").textContent = why;
  $("publish-why").hidden = !why;
  $("subject").textContent = made.subject;
  const tab = document.querySelector("#line-tabs [aria-selected=true]");
  $("line").textContent = LINES[tab.textContent](made);
}

async function publish() {
  if ($("publish").getAttribute("aria-disabled") === "true") return;
  const { below, type, data } = event();
  const { gateway, about } = session;
  const from = performance.now();
  let told;
  try {
    const id = await gateway.publish(about, below, type, data);
    list.published(id, from);
    told = `The log has it: ${id}`;
    $("published").className = "told good";
  } catch (error) {
    told = error.message;
    $("published").className = "told bad";
  }
  $("published").textContent = told;
}

$("start").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const jwt = $("jwt").value.replace(/^\s*bearer\s/i, "").replace(/\s/g, "");
  if (!jwt) return fail("Paste a JWT first.");
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(jwt)) return fail("This is no JWT: it has three parts with dots between them.");
  show("connecting");
  try {
    await connect(jwt, $("topics").value.trim());
  } catch (error) {
    show("refused");
    fail(error.name === "TimeoutError" ? "The gateway does not answer." : error.message);
  }
});
$("form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  void publish();
});
$("form").addEventListener("input", showPublish);
$("leave").addEventListener("click", () => end());
$("drop").addEventListener("click", () => $("drop").getAttribute("aria-disabled") === "true" || session.drops.drop());
$("copy").addEventListener("click", async () => {
  const copied = await copy($("line"));
  $("copied").textContent = copied ? "Copied." : "Selected: copy it with the keyboard.";
  $("copy").textContent = copied ? "Copied" : "Selected";
  setTimeout(() => ($("copy").textContent = "Copy"), 2500);
});
tabs($("line-tabs"), (tab) => {
  $("line-panel").setAttribute("aria-labelledby", tab.id);
  showPublish();
});
show("idle");
$("jwt").focus();
