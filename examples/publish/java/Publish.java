// Publishes to every tab of a user: raw, with headers, as a CloudEvent. Usage: java -cp jnats-2.26.2.jar Publish.java nats://127.0.0.1:4222
import io.nats.client.Nats;
import io.nats.client.impl.Headers;
import java.net.URLEncoder;
import static java.nio.charset.StandardCharsets.UTF_8;

public class Publish {
    public static void main(String[] args) throws Exception {
        var user = URLEncoder.encode("alice@example.com", UTF_8); // every byte but A–Z a–z 0–9 - _ is %XX in a subject
        var subject = "sse.acme.user." + user.replace("+", "%20").replace(".", "%2E").replace("*", "%2A");
        var cloud = "{'specversion':'1.0','id':'42','source':'/shop','type':'order.paid','data':{'orderId':42}}".replace('\'', '"');
        try (var connection = Nats.connect(args[0])) {
            var log = connection.jetStream(); // each publish returns when the log has the event
            log.publish(subject, "{\"orderId\":42}".getBytes(UTF_8));
            log.publish(subject, new Headers().add("Sse-Event", "order.shipped").add("Nats-Msg-Id", "acme:order-42-shipped"), "{\"orderId\":42}".getBytes(UTF_8));
            log.publish(subject, new Headers().add("Content-Type", "application/cloudevents+json"), cloud.getBytes(UTF_8));
        }
    }
}
