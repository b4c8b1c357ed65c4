// The npm package `@microsoft/fetch-event-source`: the JWT as Bearer; the package itself comes back with its last id.
// Prints what it sees. Usage: JWT=… node fetch_event_source.cjs BASE
globalThis.window = globalThis;
// It looks at the page when it ends.
globalThis.document = { removeEventListener() {} };
const { fetchEventSource } = require("@microsoft/fetch-event-source");

const [base] = process.argv.slice(2);
fetchEventSource(`${base}/stream`, {
  headers: { Authorization: `Bearer ${process.env.JWT}` },
  openWhenHidden: true,
  onmessage: ({ event, id, data }) => console.log(JSON.stringify({ type: event || "message", id, data })),
  onclose: () => { throw new Error("a stream does not end by itself"); },
  onerror: () => 100,
});
