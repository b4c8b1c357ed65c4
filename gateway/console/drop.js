// "Drop my connection": cuts the line, has events published while it is away where the credential grants that, comes back
// with the cursor, and compares what came with what was acknowledged. What the page can not know it does not say.

/** Events that are published while the line is cut. */
const SENT = 5;
/** Milliseconds: how long it is cut at least; the time in which all has to come; and in which to look where nothing was sent. */
const AWAY = 2500;
const RETURN = 10_000;
const LOOK = 2500;

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** The drops of one session. `list` is told of what is published. */
function dropping(gateway, about, stream) {
  const own = `user.${token(about.identity.user)}`;
  const may = about.publish && about.identity.publish.some((grant) => covers(grant, own));
  /** Id of the event that came last; none after a gap. */
  let newest;
  /** The drop under way. */
  let now;

  $("drop-hint").textContent = may
    ? `Cuts the line for ${AWAY / 1000} seconds and publishes ${SENT} events to you meanwhile. Then it comes back with its cursor.`
    : `Cuts the line for ${AWAY / 1000} seconds, then comes back with its cursor. To prove that nothing is missing, the page would have to publish, which ${
      about.publish ? `the credential does not grant for ${own}` : "spec.publish.enabled does not allow"}.`;

  async function publish() {
    for (let number = 1; may && number <= SENT; number++) {
      now.sent.push(await gateway.publish(about, own, "console.drop", JSON.stringify({ drop: now.number, event: number, of: SENT })));
      draw();
    }
  }

  async function drop() {
    // One after the other: what comes is compared with what this one sent.
    if (now && !now.over) return;
    const number = (now?.number ?? 0) + 1;
    now = { number, before: stream.cursor, sent: [], came: new Set(), returned: 0, repeated: 0, back: false };
    const drop = now;
    draw();
    $("proof").scrollIntoView({ block: "nearest" });
    announce("The connection is dropped.");
    const done = new Promise((resolve) => (drop.done = resolve));
    const sending = () => publish().catch((error) => (drop.failed = error.message));
    await stream.drop(() => Promise.all([sending(), pause(AWAY)]));
    await Promise.race([done, pause(RETURN)]);
    // Somebody left meanwhile.
    if (stream.over === "closed") return;
    drop.over = true;
    if (stream.over) drop.failed ??= "the stream has ended";
    draw();
    $("proof").scrollIntoView({ block: "nearest" });
    const figures = [...$("figures").children].slice(2).map((figure) => [...figure.children].map((part) => part.textContent).join(" "));
    announce(`${$("verdict").textContent} ${figures.join(", ")}.`);
  }

  function settle() {
    if (now.back && may && now.came.size >= now.sent.length) now.done();
  }

  function draw() {
    const { before, sent, came, returned, repeated, reset, failed, over, back } = now;
    const missing = sent.filter((id) => !came.has(id)).length;
    const cell = (id, kind, ...text) => el("li", { className: kind }, el("b", {}, String(sequence(id)?.number ?? "–")), el("span", {}, ...text));
    const replayed = () => [el("i", { ariaHidden: "true" }, "✓"), el("i", { className: "unseen" }, "replayed")];
    const cells = [cell(before, "before", "before")];
    for (const id of sent) {
      if (came.has(id)) cells.push(cell(id, "came", ...replayed()));
      else cells.push(over ? cell(id, "gap", "missing") : cell(id, "away", "sent"));
    }
    if (over) cells.push(cell(stream.cursor, "before", "now"));
    $("ribbon").replaceChildren(...cells);
    $("proof").hidden = false;
    $("proof").className = !over ? "under-way" : missing || repeated || reset || failed ? "bad" : may ? "good" : "plain";
    $("verdict").textContent = !over ? (back ? "Back. Looking at what came…" : "Away…")
      : failed ? `Not proven: ${failed}`
      : reset ? `The gateway tells a gap: ${reset}.`
      : missing || repeated ? "Not as promised."
      : !about.replay ? "Back. This gateway keeps no log: what was sent meanwhile is gone."
      : may ? "No gap, no duplicate." : "Back. No gap was told, nothing came twice.";
    const figures = [["Place before", before || "none"], ["Place now", over ? stream.cursor || "none" : "…"]];
    if (may) figures.push(["Sent while away", sent.length], ["Replayed", came.size], ["Missing", over ? missing : "…"]);
    else figures.push(["Came on return", returned]);
    figures.push(["Repeated", repeated]);
    $("figures").replaceChildren(...figures.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  }

  return {
    drop,
    /** The stream is open: the first time, or again. */
    opened() {
      if (!now || now.over || now.back) return;
      now.back = true;
      draw();
      if (may) settle();
      else setTimeout(now.done, LOOK);
    },
    /** An event that came. Answers what it is, when its latency says nothing. */
    event(found) {
      if (found.type === "reset" && !found.id) {
        newest = undefined;
        if (now && !now.over) now.reset = JSON.parse(found.data).reason;
        return "gap";
      }
      const repeated = newest !== undefined && ahead(found.id, newest) <= 0;
      if (!repeated && found.id) newest = found.id;
      if (!now || now.over) return repeated ? "repeated" : undefined;
      if (repeated) now.repeated++;
      else if (now.back) now.returned++;
      const mine = now.sent.includes(found.id);
      if (mine && !repeated) now.came.add(found.id);
      draw();
      settle();
      return repeated ? "repeated" : mine ? "replayed" : undefined;
    },
  };
}
