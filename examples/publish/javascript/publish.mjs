// Publishes to every tab of a user: raw, with headers, as a CloudEvent. Usage: node publish.mjs nats://127.0.0.1:4222
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

// Every byte but A–Z a–z 0–9 - _ is %XX in a subject.
const token = (id) => encodeURIComponent(id).replace(/[!'()*.~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
const connection = await connect({ servers: process.argv[2] });
const log = jetstream(connection); // each publish resolves when the log has the event
const publish = (data, names = {}) => {
  const all = headers();
  for (const [name, value] of Object.entries(names)) all.set(name, value);
  return log.publish(`sse.acme.user.${token("alice@example.com")}`, JSON.stringify(data), { headers: all });
};
await publish({ orderId: 42 });
await publish({ orderId: 42 }, { "Sse-Event": "order.shipped", "Nats-Msg-Id": "acme:order-42-shipped" });
const cloud = { specversion: "1.0", id: "42", source: "/shop", type: "order.paid", data: { orderId: 42 } };
await publish(cloud, { "Content-Type": "application/cloudevents+json" });
await connection.close();
