// The live list: what came, newest first, at most so much of it. Drawn once a frame, whatever comes in between.

/** What is kept. */
const MOST = 500;
/** Latencies that the figures are made of. */
const MEASURED = 60;

function eventList() {
  /** Oldest first; while it is paused, what came since waits beside it. */
  let kept = [];
  let waiting = [];
  let lost = 0;
  let count = 0;
  let paused = false;
  let drawn = new Map();
  let due = false;
  const sent = new Map();
  const latencies = [];
  let expanded = new Set();

  function draw() {
    due = false;
    const [words, raw] = [$("filter").value.trim().toLowerCase(), $("raw").checked];
    const shown = kept.filter((one) => (raw || one.isEvent) && (!words || one.text.includes(words))).reverse();
    const rows = shown.map((one) => {
      const known = drawn.get(one);
      const row = known?.raw === raw && known.latency === one.latency ? known.row : rowOf(one, raw);
      return [one, { raw, latency: one.latency, row }];
    });
    drawn = new Map(rows);
    // Rows that stay are not moved, so that the focus and the place of a reader stay with them.
    const body = $("rows");
    const stay = new Set(rows.map(([, { row }]) => row));
    for (const row of [...body.children]) if (!stay.has(row)) row.remove();
    rows.forEach(([, { row }], at) => body.children[at] === row || body.insertBefore(row, body.children[at] ?? null));
    $("empty").hidden = rows.length > 0;
    const some = words && kept.some((one) => one.isEvent);
    $("empty-title").textContent = some ? "Nothing that fits" : "Waiting for events";
    $("empty-text").textContent = some
      ? "No event that is kept fits the filter."
      : "Publish one, or copy a line into a terminal: it appears here.";
    $("waiting").textContent = paused ? `${waiting.length} waiting${lost ? `, ${lost} too old` : ""}` : "";
    $("count").textContent = count.toLocaleString("en");
    $("shown").textContent = rows.length.toLocaleString("en");
    drawLatency();
  }

  function refresh() {
    if (!due) requestAnimationFrame(draw);
    due = true;
  }

  function rowOf(one, raw) {
    const type = one.isEvent ? one.type : one.raw.startsWith(":") ? "comment" : "place";
    const badge = el("span", { className: `type ${one.kind}` }, type);
    const text = raw ? one.raw : one.data ?? "";
    const preview = text.length > 300 ? `${text.slice(0, 300)}…` : text;
    let data = el("code", { className: "data" }, preview);
    if (raw) data = el("pre", { className: "data" }, text);
    else if (text.length > 60 || text.includes("\n")) {
      const details = el("details", { open: expanded.has(one) }, el("summary", {}, data), el("pre", {}, pretty(text)));
      details.addEventListener("toggle", () => (details.open ? expanded.add(one) : expanded.delete(one)));
      data = details;
    }
    const latency = one.latency === undefined ? el("span", { className: "muted" }, one.note ?? "–") : milliseconds(one.latency);
    return el("tr", { className: one.kind },
      el("td", {}, el("time", { dateTime: one.at.toISOString() }, clock(one.at))),
      el("td", {}, badge),
      el("td", { className: "id" }, one.id ?? ""),
      el("td", { className: "wide" }, data),
      el("td", { className: "number" }, latency));
  }

  function pretty(text) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }

  function measure(one, from) {
    one.latency = one.arrived - from;
    latencies.push(one.latency);
    if (latencies.length > MEASURED) latencies.shift();
  }

  function drawLatency() {
    const sorted = [...latencies].sort((a, b) => a - b);
    $("latency").textContent = sorted.length ? milliseconds(sorted[sorted.length >> 1]) : "–";
    $("latency-note").textContent = sorted.length
      ? `median of ${sorted.length}, most ${milliseconds(sorted.at(-1))}`
      : "known of what this page publishes";
    const top = Math.max(...latencies.slice(-24), 1);
    const bars = latencies.slice(-24).map((time, at) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const high = Math.max(2, (24 * time) / top);
      for (const [name, value] of Object.entries({ x: at * 5, y: 24 - high, width: 3, height: high, rx: 1 })) bar.setAttribute(name, value);
      return bar;
    });
    $("bars").replaceChildren(...bars);
  }

  function push(one) {
    const into = paused ? waiting : kept;
    into.push(one);
    if (into.length > MOST) {
      expanded.delete(into.shift());
      if (paused) lost++;
    }
    refresh();
  }

  $("filter").addEventListener("input", refresh);
  $("raw").addEventListener("change", refresh);
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", paused);
    if (!paused) {
      kept = [...kept, ...waiting].slice(-MOST);
      announce(`${waiting.length} events came while the list was paused.`);
      waiting = [];
      lost = 0;
    }
    refresh();
  });
  $("clear").addEventListener("click", () => {
    kept = [];
    waiting = [];
    expanded = new Set();
    lost = 0;
    refresh();
    announce("The list is empty.");
  });

  return {
    /** A block that came; `note` says of an event why its latency is none. */
    add(found, note) {
      const isEvent = found.data !== undefined;
      const kind = found.type === "reset" && isEvent && !found.id ? "reset" : isEvent ? "event" : "other";
      const text = `${isEvent ? found.type : ""} ${found.id ?? ""} ${found.data ?? found.raw}`.toLowerCase();
      const one = { ...found, isEvent, kind, text, note, at: new Date(), arrived: performance.now() };
      if (isEvent) count++;
      if (isEvent && !note && sent.has(found.id)) measure(one, sent.get(found.id));
      sent.delete(found.id);
      push(one);
    },
    /** An event that this page has published: it may be here already, or is to come. */
    published(id, from) {
      const one = [...kept, ...waiting].find((one) => one.isEvent && one.id === id);
      if (one) measure(one, from);
      else sent.set(id, from);
      if (sent.size > MOST) sent.delete(sent.keys().next().value);
      refresh();
    },
    reset() {
      [kept, waiting, lost, count, paused] = [[], [], 0, 0, false];
      $("pause").setAttribute("aria-pressed", false);
      sent.clear();
      latencies.length = 0;
      refresh();
    },
  };
}
