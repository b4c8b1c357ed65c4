// The npm package `eventsource` as a browser's own `EventSource` with a cookie: it comes back by itself, with the last id
// in a header, until it is told to stay away. Prints what it sees, and when it has closed for good.
// Usage: JWT=… node progress.cjs URL TYPE...
const { EventSource } = require("eventsource");

const [url, ...types] = process.argv.slice(2);
const withCookie = (input, init) => fetch(input, { ...init, headers: { ...init.headers, Cookie: `access_token=${process.env.JWT}` } });
const source = new EventSource(url, { fetch: withCookie });
const tell = (type, id, data) => console.log(JSON.stringify({ type, id, data }));
for (const type of types) {
  source.addEventListener(type, (event) => tell(type, event.lastEventId, event.data));
}
source.onerror = (error) => {
  if (source.readyState === EventSource.CLOSED) tell("closed", "", String(error.code));
};
