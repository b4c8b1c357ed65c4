// Debian's Chromium by playwright-core, headless: answers its one context, as a person's browser has it.
const { spawn } = require("node:child_process");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

/** For a machine that is busy, in milliseconds. */
const PATIENCE = 90_000;
const TRIES = 3;

module.exports = async function browser() {
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
};
