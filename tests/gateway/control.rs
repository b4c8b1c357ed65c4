//! What back ends ask of open connections.

use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::Client;
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};

async fn send(nats: &Client, subject: &str, operation: Value) -> Result<()> {
    nats.publish(subject.to_owned(), operation.to_string().into()).await?;
    Ok(nats.flush().await?)
}

/// The connections of a gateway, as its admin port lists them to loopback.
async fn listed(gateway: &Gateway) -> Result<Vec<Value>> {
    let page: Value = serde_json::from_str(&gateway.get("/status?connections").await?.1)?;
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

#[tokio::test]
async fn back_ends_join_leave_tag_ping_and_disconnect() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"auth": {"tagClaims": ["plan"]}})).await?;
    let alice = gateway.client("acme", "alice").with_claims("acme", "alice", json!({"plan": "gold"}));
    let mut stream = alice.open("").await?;
    let mut bob = gateway.client("acme", "bob").open("").await?;
    let publisher = nats.publisher().await?;
    let control = &publisher.client;

    let one = listed(&gateway).await?.into_iter().find(|c| c["user"] == "alice").expect("alice");
    ensure!(one["tenant"] == "acme" && one["tags"] == json!({"plan": "gold"}), "{one}");
    let id = one["id"].as_str().expect("an id").to_owned();
    let by_id = format!("sse-ctl.acme.conn.{id}");

    send(control, &by_id, json!({"op": "join", "topics": ["Room.1"]})).await?;
    send(control, &by_id, json!({"op": "tag", "tags": {"seat": "7", "plan": null}})).await?;
    eventually("the topic and the tag", Duration::from_secs(5), || async {
        let one = listed(&gateway).await?.into_iter().find(|c| c["id"] == id.as_str()).expect("alice");
        ensure!(one["topics"] == json!(["room.1"]) && one["tags"] == json!({"seat": "7"}), "{one}");
        Ok(())
    })
    .await?;
    publisher.publish("sse.acme.topic.room.1", "in the room").await?;
    assert_eq!(stream.event().await?.data, "in the room");

    send(control, "sse-ctl.acme.user.alice", json!({"op": "leave", "topics": ["room.1"]})).await?;
    // One connection, one order: once the ping was heard, so was what came before it.
    send(control, "sse-ctl.acme.all", json!({"op": "ping"})).await?;
    stream.until_raw(":heartbeat\n\n", Duration::from_secs(5)).await?;
    bob.until_raw(":heartbeat\n\n", Duration::from_secs(5)).await?;
    publisher.publish("sse.acme.topic.room.1", "after leaving").await?;
    publisher.publish("sse.acme.user.alice", "end").await?;
    assert_eq!(stream.until("end").await?, ["end"]);

    // What makes no sense, and what is another tenant's, changes nothing.
    for (subject, operation) in [
        ("sse-ctl.acme.user.alice", json!({"op": "dance"})),
        ("sse-ctl.acme.topic.room", json!({"op": "disconnect"})),
        ("sse-ctl.other.user.alice", json!({"op": "disconnect"})),
        ("sse-ctl.other.all", json!({"op": "disconnect"})),
    ] {
        send(control, subject, operation).await?;
    }
    send(control, &format!("sse-ctl.other.conn.{id}"), json!({"op": "disconnect"})).await?;
    send(control, "sse-ctl.acme.user.bob", json!({"op": "disconnect", "reason": "kicked"})).await?;
    bob.to_end(Duration::from_secs(5)).await?;
    ensure!(bob.ended_cleanly == Some(true), "cut off");
    publisher.publish("sse.acme.user.alice", "still here").await?;
    assert_eq!(stream.event().await?.data, "still here");
    // Not a revocation: the credential is good.
    gateway.client("acme", "bob").open("").await?;
    ensure!(gateway.log().contains("control"), "the reason of the end is not in the log");
    Ok(())
}
