// Publishes to every tab of a user: raw, with headers, as a CloudEvent. Usage: dotnet run nats://127.0.0.1:4222
using NATS.Client.Core;
using NATS.Client.JetStream;
using NATS.Net;

// Every byte but A–Z a–z 0–9 - _ is %XX in a subject.
static string Token(string id) => Uri.EscapeDataString(id).Replace(".", "%2E").Replace("~", "%7E");

await using var client = new NatsClient(args[0]);
var log = client.CreateJetStreamContext();
var subject = $"sse.acme.user.{Token("alice@example.com")}";
async Task Publish(string data, NatsHeaders? headers = null) =>
    (await log.PublishAsync(subject, data, headers: headers)).EnsureSuccess(); // the log has the event

await Publish("""{"orderId":42}""");
await Publish("""{"orderId":42}""", new() { ["Sse-Event"] = "order.shipped", ["Nats-Msg-Id"] = "acme:order-42-shipped" });
var cloud = """{"specversion":"1.0","id":"42","source":"/shop","type":"order.paid","data":{"orderId":42}}""";
await Publish(cloud, new() { ["Content-Type"] = "application/cloudevents+json" });
