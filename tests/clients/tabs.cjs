// Debian's Chromium with tabs that run our client's built bundle, by playwright-core: real tabs of one window, of which
// one is shown. Does what comes on stdin, a line of JSON each, and prints what the tabs tell. Usage: node tabs.cjs PORT DIST
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const readline = require("node:readline");
const browser = require("./browser.cjs");

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

async function lifecycle(page, state) {
  const session = await page.context().newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state });
  await session.detach();
}

async function add(tab, context) {
  const page = await context.newPage();
  tabs.set(tab, page);
  page.on("pageerror", (error) => print({ tab, told: { error: String(error) } }));
  return page;
}

const deeds = {
  cookie: ({ name, value }, context) => context.addCookies([{ name, value, domain: "127.0.0.1", path: "/" }]),
  async open({ tab, script, clock }, context) {
    scripts.set(String(tab), script);
    const page = await add(tab, context);
    if (clock) await page.clock.install();
    await page.goto(`${origin}/${tab}`);
  },
  // A page of somebody else's server.
  visit: async ({ tab, url }, context) => (await add(tab, context)).goto(url),
  reload: ({ tab }) => tabs.get(tab).reload(),
  // Waits until it is there for all to see.
  see: ({ tab, text, selector }) => {
    const page = tabs.get(tab);
    return (selector ? page.locator(selector) : page.getByText(text, { exact: true })).first().waitFor();
  },
  say: async ({ tab, label, text }) => {
    await tabs.get(tab).getByLabel(label).fill(text);
    await tabs.get(tab).keyboard.press("Enter");
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
