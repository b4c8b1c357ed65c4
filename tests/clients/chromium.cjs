// Debian's Chromium: serves page.html, opens it, and prints what the page sees. STYLE: `cookie` (the JWT is the cookie
// `session`, and EventSource reconnects), `token` (EventSource, each attempt with a token) or `fetch` (Bearer). PAGE: the
// origin of the page; of https, PEM is a file with its certificate and key: a page of http is of another site than a
// gateway of https, and its cookies stay at home.
// Usage: JWT=… node chromium.cjs BASE PAGE PEM STYLE TYPE...
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");

const [base, page, file, style, ...types] = process.argv.slice(2);
const secure = page.startsWith("https:");
const pem = secure && fs.readFileSync(file);
const jwt = process.env.JWT;
const modules = path.dirname(require.resolve("@microsoft/fetch-event-source/package.json"));

const answers = {
  "/": () => [{ "Content-Type": "text/html", "Set-Cookie": `session=${jwt}; HttpOnly; SameSite=Strict${secure ? "; Secure" : ""}` },
    fs.readFileSync(path.join(__dirname, "page.html"))],
  "/settings": () => [{}, JSON.stringify({ style, base, jwt: style === "cookie" ? "" : jwt, types })],
};

async function serve(request, response) {
  if (request.method === "POST") {
    let line = "";
    for await (const text of request.setEncoding("utf8")) line += text;
    console.log(line);
    return response.end();
  }
  const file = request.url.match(/^\/fetch-event-source\/(\w+(\.js)?)$/)?.[1];
  const script = () => [{ "Content-Type": "text/javascript" },
    fs.readFileSync(path.join(modules, "lib/esm", file.endsWith(".js") ? file : `${file}.js`))];
  const answer = file ? script : answers[request.url];
  const [headers, body] = answer ? answer() : [{}, ""];
  response.writeHead(answer ? 200 : 404, headers).end(body);
}

const server = secure ? https.createServer({ cert: pem, key: pem }, serve) : http.createServer(serve);
server.listen(Number(new URL(page).port), "127.0.0.1", () => {
  const flags = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--no-proxy-server", "--ignore-certificate-errors",
    `--user-data-dir=${process.env.HOME}/profile`];
  if (process.getuid() === 0) flags.push("--no-sandbox");
  // It ends with this process, however that ends.
  const chromium = ["--pdeathsig", "KILL", "chromium", ...flags, `${page}/`];
  spawn("setpriv", chromium, { stdio: ["ignore", "ignore", "inherit"] }).on("exit", process.exit);
});
