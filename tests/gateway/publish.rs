//! Publishing over HTTP: whom an event reaches and what its publisher is told, who may, and what is refused.

mod again;
mod refused;
mod rights;
mod shares;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::client::{Answer, Client};
use sse_tests::process::{Gateway, Nats, merge};

pub const EVENTS: &str = "/api/v1/sse/events";

pub async fn gateway(nats: &Nats, patch: Value) -> Result<Gateway> {
    let mut spec = json!({"publish": {"enabled": true}});
    merge(&mut spec, patch);
    Gateway::start(nats, spec).await
}

/// A service of the tenant, whose credential has this claim.
pub fn service(gateway: &Gateway, tenant: &str, publish: &Value) -> Client {
    gateway.client(tenant, "shop-service").with_claims(tenant, "shop-service", json!({"publish": publish}))
}

/// The place that an accepted event has.
pub fn place(answer: &Answer) -> Result<String> {
    ensure!(answer.status == 202, "{} {}", answer.status, answer.body);
    ensure!(answer.headers["content-type"] == "application/json", "{:?}", answer.headers);
    ensure!(answer.headers["cache-control"] == "no-store", "{:?}", answer.headers);
    let body: Value = serde_json::from_str(&answer.body)?;
    Ok(body["id"].as_str().context("an id")?.to_owned())
}

#[tokio::test]
async fn what_one_pod_took_reaches_whom_it_is_for_on_another_under_the_id_that_was_answered() -> Result<()> {
    let nats = Nats::start().await?;
    let welcome = json!({"topics": {"public": [">"]},
        "stream": {"welcomeEvents": [{"event": "welcome", "data": "{connectionId}"}]}});
    let one = gateway(&nats, welcome.clone()).await?;
    let two = gateway(&nats, welcome).await?;
    let mut alice = two.client("acme", "alice").open_with("&topics=orders.*").await?;
    let connection = alice.event().await?.data;
    let mut bob = two.client("acme", "b@b.example").open_with("").await?;
    bob.event().await?;
    let mut stranger = two.client("other", "alice").open_with("&topics=orders.*").await?;
    stranger.event().await?;
    let shop = service(&one, "acme", &json!([">"]));
    let mut ids = Vec::new();
    for (subject, headers, data) in [
        ("user.alice", &[("sse-event", "order.shipped")][..], "alone"),
        ("user.b%40b%2Eexample", &[], "for b@b"),
        ("users", &[("Sse-Users", "alice,b%40b%2Eexample"), ("Sse-Users", "carol")], "for both"),
        ("topic.orders.eu", &[], "a topic"),
        ("topics", &[("sse-topics", "orders.us, news")], "some topics"),
        (&*format!("conn.{connection}"), &[], "one tab"),
        ("all", &[("sse-retry", "1234"), ("sse-event", "größer")], "two\nlines"),
    ] {
        ids.push(place(&shop.post(subject, headers, data).await?)?);
    }
    service(&one, "other", &json!("all")).post("all", &[], "for another tenant").await?;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(alice.event().await?);
    }
    let data: Vec<_> = seen.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, ["alone", "for both", "a topic", "some topics", "one tab", "two\nlines"]);
    let expected: Vec<_> = [0, 2, 3, 4, 5, 6].map(|at: usize| ids[at].clone()).into();
    assert_eq!(seen.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), expected);
    assert_eq!((seen[0].name.as_str(), seen[5].name.as_str()), ("order.shipped", "größer"));
    assert_eq!(alice.retry, Some(1234));
    assert_eq!(bob.until("two\nlines").await?, ["for b@b", "for both", "two\nlines"]);
    assert_eq!(stranger.event().await?.data, "for another tenant");
    // It is a place to come back to, like any other.
    let mut again = two.client("acme", "b@b.example").open(&ids[1]).await?;
    assert_eq!(again.event().await?.name, "welcome");
    assert_eq!(again.until("two\nlines").await?, ["for both", "two\nlines"]);
    Ok(())
}

#[tokio::test]
async fn cloud_events_are_posted_in_either_mode_and_keep_their_attributes_and_trace() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let shop = service(&gateway, "acme", &json!(["user.*"]));
    let envelope =
        json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "order.paid", "data": {"a": 1}});
    let structured = [("content-type", "application/cloudevents+json; charset=UTF-8")];
    place(&shop.post("user.alice", &structured, envelope.to_string()).await?)?;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-type", "order%20shipped"),
        ("ce-id", "2"),
        ("ce-source", "/s"),
        ("ce-severity", "low"),
        ("content-type", "application/json"),
        ("traceparent", trace),
        ("tracestate", "vendor=1"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let id = place(&shop.post("user.alice", &binary, r#"{"orderId":42}"#).await?)?;
    let first = stream.event().await?;
    assert_eq!((first.name.as_str(), first.data.as_str()), ("order.paid", r#"{"a":1}"#));
    let second = stream.event().await?;
    assert_eq!((second.name.as_str(), second.data.as_str()), ("order shipped", r#"{"orderId":42}"#));
    let stored = nats.publisher().await?.jetstream.get_stream("SSE_sse").await?;
    let sequence = id.rsplit('-').next().context("a sequence")?.parse()?;
    let message = stored.get_raw_message(sequence).await?;
    let mut headers: Vec<_> =
        message.headers.iter().map(|(name, values)| (name.as_ref(), values[0].as_str())).collect();
    headers.sort_unstable();
    let mut expected = binary[..8].to_vec();
    expected[5].0 = "Content-Type";
    expected.sort_unstable();
    assert_eq!(headers, expected);
    Ok(())
}

#[tokio::test]
async fn a_completing_event_ends_the_streams_and_its_id_keeps_clients_away() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({"topics": {"public": ["job.>"]}})).await?;
    let mut stream = gateway.client("acme", "alice").open_with("&topics=job.7").await?;
    let worker = service(&gateway, "acme", &json!("topic.job.>"));
    let id = place(&worker.post("topic.job.7", &[("sse-complete", "true")], "done").await?)?;
    let last = stream.event().await?;
    assert_eq!((last.data.as_str(), &last.id), ("done", &id));
    assert!(id.ends_with("-end"), "{id}");
    let path = format!("/api/v1/sse/stream?token={}&lastEventId={id}", worker.token().await?);
    assert_eq!(worker.request(hyper::Method::GET, &path, &[]).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn without_the_setting_there_is_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let closed = Gateway::start(&nats, json!({})).await?;
    let answer = service(&closed, "acme", &json!([">"])).post("all", &[], "x").await?;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (404, &"application/problem+json".parse()?)
    );
    let open = gateway(&nats, json!({})).await?;
    let answer = open.client("acme", "alice").request(hyper::Method::GET, EVENTS, &[]).await?;
    assert_eq!((answer.status.as_u16(), &answer.headers["allow"]), (405, &"POST".parse()?));
    Ok(())
}
