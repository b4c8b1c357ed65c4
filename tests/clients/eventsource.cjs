// The npm package `eventsource`, as the README has a page do it: each attempt mints a token of its own, and the last id
// is in the query. Prints what it sees. With PEM, the file of an authority, it asks within TLS by the npm package
// `undici`, which takes HTTP/2 where it is offered; otherwise PEM is empty, and it asks over HTTP/1.1.
// Usage: JWT=… node eventsource.cjs BASE PEM TYPE...
const fs = require("node:fs");
const { EventSource } = require("eventsource");

const [base, pem, ...types] = process.argv.slice(2);
const ask = pem ? overHttp2(fs.readFileSync(pem)) : fetch;
let lastId = "";

function overHttp2(ca) {
  const { Agent, fetch } = require("undici");
  // The default of undici ends a body that was silent for five minutes; a stream may be.
  const dispatcher = new Agent({ allowH2: true, bodyTimeout: 0, connect: { ca } });
  return (url, options) => fetch(url, { ...options, dispatcher });
}

function again(why) {
  console.error(why);
  setTimeout(() => connect().catch(again), 100);
}

async function connect() {
  const answer = await ask(`${base}/token`, { method: "POST", headers: { Authorization: `Bearer ${process.env.JWT}` } });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { token } = await answer.json();
  const source = new EventSource(`${base}/stream?token=${token}&lastEventId=${lastId}`, { fetch: ask });
  for (const type of types) {
    source.addEventListener(type, ({ type, lastEventId, data }) => {
      lastId = lastEventId;
      console.log(JSON.stringify({ type, id: lastId, data }));
    });
  }
  source.onerror = (error) => {
    source.close();
    again(error);
  };
}

connect().catch(again);
