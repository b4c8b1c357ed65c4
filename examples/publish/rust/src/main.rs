//! Publishes to every tab of a user: raw, with headers, as a `CloudEvent`. Usage: `cargo run nats://127.0.0.1:4222`
use async_nats::jetstream::{message::PublishMessage, new};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b); // the others are %XX in a subject
    let escape = |b: u8| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") };
    let user: String = "alice@example.com".bytes().map(escape).collect();
    let log = new(async_nats::connect(std::env::args().nth(1).ok_or("no URL")?).await?);
    let message = |data: &'static str| PublishMessage::build().payload(data.into());
    let order = message(r#"{"orderId":42}"#);
    let named = order.clone().header("Sse-Event", "order.shipped").message_id("acme:order-42-shipped");
    let data = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","data":{"orderId":42}}"#;
    let cloud = message(data).header("Content-Type", "application/cloudevents+json");
    for message in [order, named, cloud] {
        log.send_publish(format!("sse.acme.user.{user}"), message).await?.await?; // the log has the event
    }
    Ok(())
}
