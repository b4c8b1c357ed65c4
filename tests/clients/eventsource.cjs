// The npm package `eventsource`, as the README has a page do it: each attempt mints a token of its own, and the last id
// is in the query. Prints what it sees. Usage: JWT=… node eventsource.cjs BASE TYPE...
const { EventSource } = require("eventsource");

const [base, ...types] = process.argv.slice(2);
let lastId = "";

function again() {
  setTimeout(() => connect().catch(again), 100);
}

async function connect() {
  const answer = await fetch(`${base}/token`, { method: "POST", headers: { Authorization: `Bearer ${process.env.JWT}` } });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { token } = await answer.json();
  const source = new EventSource(`${base}/stream?token=${token}&lastEventId=${lastId}`);
  for (const type of types) {
    source.addEventListener(type, ({ type, lastEventId, data }) => {
      lastId = lastEventId;
      console.log(JSON.stringify({ type, id: lastId, data }));
    });
  }
  source.onerror = () => {
    source.close();
    again();
  };
}

again();
