// The console in Debian's Chromium, as a person uses it: does what comes on stdin, a line of JSON each, and answers with a
// line. Keeps what must never be: violations of the page's policy, errors, and what it asks of whom.
// Usage: node console.cjs
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const browser = require("./browser.cjs");

const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const complaints = [];
const requests = [];
let page;

async function open(context, url) {
  page = await context.newPage();
  // In the words of the browser itself; what axe runs is not under the page's policy, and comes later.
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  page.on("console", (message) => {
    // What the network says of an answer that is no success is shown by the page.
    const network = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !network) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(`${request.method()} ${request.url()}`));
  await page.goto(url);
}

/** What has the focus, and whether one sees that it has. */
const focused = () => page.evaluate(() => {
  const { activeElement: it } = document;
  const { outlineStyle, outlineWidth } = getComputedStyle(it);
  const name = it.id || (it.matches(".scroll") ? "scroll" : it.tagName.toLowerCase());
  const isNothing = it === document.body;
  return { name, seen: isNothing || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2) };
});

const deeds = {
  open: ({ url }, context) => open(context, url),
  media: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  fill: ({ into, text }) => page.locator(into).fill(text),
  click: ({ on }) => page.locator(on).click(),
  choose: ({ on, option }) => page.locator(on).selectOption(option),
  press: ({ keys }) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve()),
  write: ({ text }) => page.keyboard.insertText(text),
  focused,
  /** Text of all that are visible, as it is shown. */
  texts: ({ of }) => page.locator(of).filter({ visible: true }).allInnerTexts(),
  attribute: ({ of, name }) => page.locator(of).getAttribute(name),
  /** What axe finds that is serious or worse; of one rule, or of all. */
  async axe({ rule }) {
    await page.evaluate(`globalThis.axe ?? (() => { ${axe} })()`);
    const options = { resultTypes: ["violations"], ...(rule && { runOnly: [rule] }) };
    const { passes, violations } = await page.evaluate((options) => globalThis.axe.run(document, options), options);
    if (!passes.length) throw new Error("axe has looked at nothing");
    const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return grave.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`).join(" | ")}`);
  },
  async shot({ file }) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    await page.screenshot({ path: file });
  },
  /** Everything that outlasts the page, or is in its document. */
  kept: () => page.evaluate(async () => {
    const caches = "caches" in globalThis ? await globalThis.caches.keys() : [];
    const bases = (await indexedDB.databases()).length;
    const elements = [...document.querySelectorAll("input, textarea")].map(({ value }) => value);
    return JSON.stringify({ ...localStorage, ...sessionStorage, cookie: document.cookie, caches, bases, url: location.href, elements }) +
      document.documentElement.outerHTML;
  }),
  complaints: () => complaints,
  requests: () => requests,
};

browser().then(async (context) => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const deed = JSON.parse(line);
    const answer = await Promise.resolve(deeds[deed.do](deed, context)).then((told) => ({ told }), (error) => ({ failed: String(error) }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit();
});
