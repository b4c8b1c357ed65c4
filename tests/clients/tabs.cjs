// Debian's Chromium with tabs that run our client's built bundle, by playwright-core: real tabs of one window, of which
// one is shown. Does what comes on stdin, a line of JSON each, and prints what the tabs tell. Usage: node tabs.cjs PORT DIST
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

/** For a machine that is busy, in milliseconds. */
const PATIENCE = 90_000;
const TRIES = 3;

const [port, dist] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const imports = { "sse-gateway-client": "/index.js", "sse-gateway-client/shared": "/shared.js" };
const scripts = new Map();
const tabs = new Map();

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const server = http.createServer((request, response) => {
  const name = request.url.slice(1);
  if (/^\w+\.js$/.test(name)) {
    response.setHeader("Content-Type", "text/javascript");
    return response.end(fs.readFileSync(path.join(dist, name)));
  }
  if (!scripts.has(name)) return response.writeHead(404).end();
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  response.end(`<!DOCTYPE html><title>${name}</title>${map}<script type="module">${scripts.get(name)}</script>`);
});

async function browser() {
  const flags = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--no-proxy-server", "--remote-debugging-port=0",
    // A hidden tab is as slow as Chromium makes its timers, and not slower for the machine's other work.
    "--disable-renderer-backgrounding", "--no-startup-window", `--user-data-dir=${process.env.HOME}/profile`];
  if (process.getuid() === 0) flags.push("--no-sandbox");
  // It ends with this process, however that ends.
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "chromium", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  child.on("exit", process.exit);
  const address = await new Promise((resolve) => {
    readline.createInterface({ input: child.stderr }).on("line", (line) => {
      process.stderr.write(`${line}\n`);
      const address = /ws:\/\/\S+/.exec(line)?.[0];
      if (address) resolve(address);
    });
  });
  // Its defaults would have every tab be shown at once. A browser that only begins may never answer its first question.
  const connect = (left) =>
    chromium.connectOverCDP(address, { noDefaults: true, timeout: PATIENCE / TRIES }).catch((error) => {
      if (!left) throw error;
      return connect(left - 1);
    });
  const connected = await connect(TRIES - 1);
  const [context] = connected.contexts();
  context.setDefaultTimeout(PATIENCE);
  return context;
}

async function lifecycle(page, state) {
  const session = await page.context().newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state });
  await session.detach();
}

const deeds = {
  cookie: ({ name, value }, context) => context.addCookies([{ name, value, domain: "127.0.0.1", path: "/" }]),
  async open({ tab, script, clock }, context) {
    scripts.set(String(tab), script);
    const page = await context.newPage();
    tabs.set(tab, page);
    page.on("pageerror", (error) => print({ tab, told: { error: String(error) } }));
    if (clock) await page.clock.install();
    await page.goto(`${origin}/${tab}`);
  },
  show: ({ tab }) => tabs.get(tab).bringToFront(),
  freeze: ({ tab }) => lifecycle(tabs.get(tab), "frozen"),
  thaw: ({ tab }) => lifecycle(tabs.get(tab), "active"),
  close: ({ tab }) => tabs.get(tab).close(),
  // The clock alone, as somebody sets it.
  step: ({ tab, to }) => tabs.get(tab).clock.setSystemTime(to),
  // Clock and timers, as after sleep.
  skip: ({ tab, ms }) => tabs.get(tab).clock.fastForward(ms),
};

server.listen(Number(port), "127.0.0.1", async () => {
  const context = await browser();
  await context.exposeBinding("tell", ({ page }, told) => {
    for (const [tab, of] of tabs) if (of === page) print({ tab, told });
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const deed = JSON.parse(line);
    const failed = await Promise.resolve(deeds[deed.do](deed, context)).then(() => "", String);
    print({ done: deed.number, failed });
  }
  process.exit();
});
