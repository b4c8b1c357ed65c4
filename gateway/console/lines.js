// Lines to copy: the same event by `nats`, curl, Python and JavaScript. None holds the JWT: curl takes it from the shell.

/** An id, or one level of a topic, as a token of a subject. */
function token(id) {
  return encodeURIComponent(id).replace(/[!'()*.~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The subject below the tenant that a form names. */
function subjectOf(target, name) {
  if (target === "all") return "all";
  if (target === "user") return `user.${token(name.trim())}`;
  return `topic.${name.trim().toLowerCase().split(".").map(token).join(".")}`;
}

/** Whether a grant of the publish claim covers a subject: `*` is one level, `>` at the end one or more. */
function covers(grant, subject) {
  const [wanted, levels] = [grant.split("."), subject.split(".")];
  return wanted.every((level, at) => (level === ">" ? levels.length > at : level === "*" ? at < levels.length : level === levels[at])) &&
    (wanted.at(-1) === ">" || wanted.length === levels.length);
}

const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** By the name of the tab. */
const LINES = {
  nats: ({ subject, type, data }) =>
    `nats pub ${shell(subject)} ${shell(data)}${type && ` \\\n  -H ${shell(`Sse-Event:${type}`)}`}`,

  curl: ({ url, below, type, data }) => [
    `curl ${shell(url)}`,
    `-H "Authorization: Bearer $JWT"`,
    `-H ${shell(`Sse-Subject: ${below}`)}`,
    ...(type ? [`-H ${shell(`Sse-Event: ${type}`)}`] : []),
    `--data-raw ${shell(data)}`,
  ].join(" \\\n  "),

  Python: ({ subject, type, data }) => `import asyncio, nats  # pip install nats-py

async def main():
    nc = await nats.connect("nats://localhost:4222")
    ack = await nc.jetstream().publish(
        ${JSON.stringify(subject)},
        ${JSON.stringify(data)}.encode(),${type && `
        headers={"Sse-Event": ${JSON.stringify(type)}},`}
    )
    print(ack.seq)
    await nc.close()

asyncio.run(main())`,

  JavaScript: ({ subject, type, data }) => `import { connect, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const nc = await connect({ servers: "nats://localhost:4222" });
const h = headers();${type && `
h.set("Sse-Event", ${JSON.stringify(type)});`}
const ack = await jetstream(nc).publish(
  ${JSON.stringify(subject)},
  ${JSON.stringify(data)},
  { headers: h },
);
console.log(ack.seq);
await nc.close();`,
};
