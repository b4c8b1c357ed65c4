//! Topics, lists, one connection, everyone: every target that a subject can name.

use anyhow::Result;
use serde_json::{Value, json};
use sse_tests::client::Client;
use sse_tests::process::{Gateway, Nats};

fn member(gateway: &Gateway, user: &str, claims: Value) -> Client {
    gateway.client("acme", user).with_claims("acme", user, claims)
}

#[tokio::test]
async fn a_topic_reaches_whoever_is_subscribed_by_name_or_by_pattern() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway =
        Gateway::start(&nats, json!({"topics": {"public": ["news.>"], "autoJoin": ["motd"]}})).await?;
    let orders = member(&gateway, "alice", json!({"topics": ["orders.*"]}));
    let mut named = orders.open_with("&topics=%20Orders.EU,orders.us").await?;
    let mut wild = orders.open_with("&topics=orders.*,news.today").await?;
    let mut none = orders.open_with("").await?;
    let mut eve = gateway.client("other", "alice").open_with("&topics=news.today").await?;
    let publisher = nats.publisher().await?;
    for (subject, data) in [
        ("sse.acme.topic.orders.eu", "eu"),
        ("sse.acme.topic.orders.jp", "jp"),
        ("sse.acme.topic.news.today", "news"),
        ("sse.other.topic.news.today", "their news"),
        ("sse.acme.topic.motd", "motd"),
        ("sse.acme.topic.Orders.eu", "another spelling"),
        ("sse.acme.all", "end"),
        ("sse.other.all", "end"),
    ] {
        publisher.publish(subject, data).await?;
    }
    assert_eq!(named.until("end").await?, ["eu", "motd", "end"]);
    assert_eq!(wild.until("end").await?, ["eu", "jp", "news", "motd", "end"]);
    assert_eq!(none.until("end").await?, ["motd", "end"]);
    assert_eq!(eve.until("end").await?, ["their news", "end"]);
    Ok(())
}

#[tokio::test]
async fn lists_reach_each_of_their_receivers_once_and_replay_agrees() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"topics": {"public": [">"]}})).await?;
    let alice = gateway.client("acme", "alice");
    let mut first = alice.open_with("&topics=a,b,c.>").await?;
    let start = first.position().await?;
    let mut bob = gateway.client("acme", "b@b").open_with("&topics=b").await?;
    let publisher = nats.publisher().await?;
    for (subject, headers, data) in [
        ("sse.acme.users", [("Sse-Users", "alice, b%40b,alice")], "both"),
        ("sse.acme.users", [("Sse-Users", "carol")], "carol"),
        ("sse.acme.topics", [("Sse-Topics", "a,b,c.d")], "in three ways"),
        ("sse.acme.topics", [("Sse-Topics", "x")], "x"),
        ("sse.acme.topics", [("Sse-Users", "alice")], "no list of topics"),
        ("sse.acme.all", [("Sse-Users", "nobody")], "end"),
    ] {
        publisher.publish_with(subject, &headers, data).await?;
    }
    let expected = ["both", "in three ways", "end"];
    assert_eq!(first.until("end").await?, expected);
    assert_eq!(bob.until("end").await?, expected);
    let mut again = alice.open_with(&format!("&topics=a,b,c.>&lastEventId={start}")).await?;
    assert_eq!(again.until("end").await?, expected);
    let mut fewer = alice.open_with(&format!("&lastEventId={start}")).await?;
    assert_eq!(fewer.until("end").await?, ["both", "end"]);
    Ok(())
}

#[tokio::test]
async fn a_topic_needs_a_grant_and_a_request_that_makes_sense() -> Result<()> {
    let nats = Nats::start().await?;
    let limits = json!({"limits": {"maxTopicsPerConnection": 3}, "topics": {"public": ["news"]}});
    let gateway = Gateway::start(&nats, limits).await?;
    let client = member(&gateway, "alice", json!({"topics": ["orders.*", "jobs.>"]}));
    for (topics, status) in [
        ("", 200),
        ("%20", 200),
        ("news", 200),
        ("orders.eu,jobs.1.log", 200),
        ("ORDERS.*", 200),
        ("jobs.*", 200),
        ("orders", 403),
        ("orders.eu.de", 403),
        ("orders.>", 403),
        ("*", 403),
        (">", 403),
        ("news.today", 403),
        ("news,billing", 403),
        ("news,", 400),
        ("a..b", 400),
        (">.a", 400),
        ("orders.1,orders.2,orders.3,orders.4", 400),
        ("orders.1,orders.1,orders.1,orders.1", 200),
    ] {
        let answer = client.open_with(&format!("&topics={topics}")).await;
        let status_seen = answer.as_ref().map_or_else(ToString::to_string, |_| "200".into());
        assert!(status_seen.contains(&status.to_string()), "{topics:?}: {status_seen}");
    }
    // The right goes with the token, which a wrong request does not use up.
    let token = client.token().await?;
    let path = |topics: &str| format!("/api/v1/sse/stream?token={token}&topics={topics}");
    let wrong = client.request(hyper::Method::GET, &path("a..b"), &[]).await?;
    assert_eq!(wrong.status, 400);
    let completed = format!("{}&lastEventId=00000000-1-end", path("jobs.1"));
    assert_eq!(client.request(hyper::Method::GET, &completed, &[]).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn one_connection_can_be_reached_and_everyone_only_if_that_is_allowed() -> Result<()> {
    let nats = Nats::start().await?;
    let welcome = json!({"stream": {"welcomeEvents": [{"event": "welcome", "data": "{connectionId}"}]}});
    let closed = Gateway::start(&nats, welcome).await?;
    let patch = json!({"nats": {"stream": {"managed": false}}, "platformBroadcast": {"enabled": true}});
    let open = Gateway::start_unready(&nats, "tests/open", patch)?;
    open.ready().await?;
    let mut one = closed.client("acme", "alice").open_with("").await?;
    let id = one.event().await?.data;
    let mut other = closed.client("acme", "alice").open_with("").await?;
    other.event().await?;
    let mut anyone = open.client("whoever", "bob").open_with("").await?;
    let publisher = nats.publisher().await?;
    publisher.publish(&format!("sse.acme.conn.{id}"), "for one tab").await?;
    publisher.publish(&format!("sse.other.conn.{id}"), "not by another tenant").await?;
    publisher.publish("sse._platform.all", "for everyone").await?;
    publisher.publish("sse.acme.all", "end").await?;
    assert_eq!(one.until("end").await?, ["for one tab", "end"]);
    assert_eq!(other.until("end").await?, ["end"]);
    assert_eq!(anyone.event().await?.data, "for everyone");
    Ok(())
}

#[tokio::test]
async fn cloud_events_are_events_of_their_type() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open_with("").await?;
    let publisher = nats.publisher().await?;
    let binary =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "order.shipped")];
    publisher.publish_with("sse.acme.user.alice", &binary, r#"{"orderId":42}"#).await?;
    let structured = [("Content-Type", "application/cloudevents+json")];
    let envelope =
        json!({"specversion": "1.0", "id": "2", "source": "/s", "type": "order.paid", "data": {"a": 1}});
    publisher.publish_with("sse.acme.user.alice", &structured, &envelope.to_string()).await?;
    let first = stream.event().await?;
    assert_eq!((first.name.as_str(), first.data.as_str()), ("order.shipped", r#"{"orderId":42}"#));
    let second = stream.event().await?;
    assert_eq!((second.name.as_str(), second.data.as_str()), ("order.paid", r#"{"a":1}"#));
    Ok(())
}

#[tokio::test]
async fn gateways_with_different_prefixes_share_a_server_and_nothing_else() -> Result<()> {
    let nats = Nats::start().await?;
    let one = Gateway::start(&nats, json!({})).await?;
    // One prefix begins with the other: subjects must be told apart by whole tokens.
    let two = Gateway::start_unready(&nats, "tests/two", json!({"nats": {"subjectPrefix": "sse_two"}}))?;
    two.ready().await?;
    let mut first = one.client("acme", "alice").open_with("").await?;
    let mut second = two.client("acme", "alice").open_with("").await?;
    let publisher = nats.publisher().await?;
    for prefix in ["sse", "sse_two"] {
        publisher.publish(&format!("{prefix}.acme.user.alice"), prefix).await?;
        publisher.publish(&format!("{prefix}.acme.all"), "end").await?;
    }
    assert_eq!(first.until("end").await?, ["sse", "end"]);
    assert_eq!(second.until("end").await?, ["sse_two", "end"]);
    // A token of the one is none at the other.
    let token = one.client("acme", "alice").token().await?;
    let path = format!("/api/v1/sse/stream?token={token}");
    let answer = two.client("acme", "alice").request(hyper::Method::GET, &path, &[]).await?;
    assert_eq!(answer.status, 401);
    Ok(())
}
