// Many connections of our client's built bundle in one process. Prints each change of state, with the time that it
// took since the start, and the delay that follows. Reads a JWT for each from stdin, a line each. Usage: node fleet.mjs BASE DIST
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [url, dist] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(`${dist}/index.js`));

readFileSync(0, "utf8").trim().split("\n").forEach((jwt, client) => {
  const onState = (state, { delay = 0 }) => console.log(JSON.stringify({ client, state, delay, at: performance.now() }));
  connect({ url, getJwt: () => jwt, minDelay: 2000, onState });
});
