//! The contracts for machines are what the gateway does: docs/openapi.yaml by what schemathesis makes up, and
//! docs/asyncapi.yaml by each of its examples, which is published and arrives as the document says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sse_tests::client::Stream;
use sse_tests::contracts;
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;
use tokio::time::timeout;

use crate::publish;

/// For what is best effort, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);
/// What schemathesis makes up of each operation, and of both together at least: fewer would be no test.
const EXAMPLES: u32 = 100;
const FEWEST: u64 = 300;
const USER: &str = "alice@example.com";

#[tokio::test]
async fn schemathesis_finds_nothing_against_the_openapi_document() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = publish::gateway(&nats, json!({})).await?;
    let shop = publish::service(&gateway, "acme", &json!([">"]));
    let found = contracts::schemathesis(gateway.address, &shop.jwt, EXAMPLES).await?;
    let count = found.lines().find_map(|line| line.trim().split_once(" generated")).context("a count")?.0;
    ensure!(count.parse::<u64>()? > FEWEST && found.contains("2 selected / 2 total"), "{found}");
    Ok(())
}

/// A user's stream, that tells its connection's id first.
async fn open(gateway: &Gateway) -> Result<(Stream, String)> {
    let mut stream = gateway.client("acme", USER).open_with("&topics=orders.eu").await?;
    let connection = stream.event().await?.data;
    Ok((stream, connection))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[tokio::test]
async fn each_example_of_the_asyncapi_document_does_what_it_says() -> Result<()> {
    let nats = Nats::start().await?;
    let welcome = json!([{"event": "welcome", "data": "{connectionId}"}]);
    let spec = json!({"platformBroadcast": {"enabled": true}, "topics": {"public": [">"]},
        "stream": {"welcomeEvents": welcome}, "limits": {"maxConnectionsPerUser": 100}});
    let gateway = Gateway::start(&nats, spec).await?;
    let publisher = nats.publisher().await?;
    let mut seen = BTreeMap::<String, usize>::new();
    let mut controlled: Option<(String, Stream, String)> = None;
    for example in contracts::asyncapi().await? {
        let (address, name) = (text(&example["address"]), text(&example["name"]));
        *seen.entry(address.split('.').next().unwrap_or_default().to_owned()).or_default() += 1;
        let what = || format!("{} of {address}: {name}", example["operation"]);
        if address.starts_with("sse-dead.") {
            dead(&publisher, &example).await.with_context(what)?;
        } else if address.starts_with("sse-ctl.") {
            if controlled.as_ref().is_none_or(|(of, ..)| *of != address) {
                let (stream, connection) = open(&gateway).await?;
                controlled = Some((address.clone(), stream, connection));
            }
            let (_, stream, connection) = controlled.as_mut().context("a stream")?;
            let subject = named(&address, connection);
            publisher.client.publish(subject, text(&example["payload"]).into()).await?;
            obeyed(&gateway, connection, stream, &example["payload"]).await.with_context(what)?;
        } else {
            let (mut stream, connection) = open(&gateway).await?;
            arrives(&publisher, &mut stream, &named(&address, &connection), &example)
                .await
                .with_context(what)?;
        }
    }
    let expected = [("sse", 32), ("sse-ctl", 15), ("sse-dead", 1)];
    ensure!(seen.iter().map(|(kind, count)| (kind.as_str(), *count)).eq(expected), "{seen:?}");
    Ok(())
}

/// An address with the id of a connection that there is.
fn named(address: &str, connection: &str) -> String {
    match address.split_once(".conn.") {
        Some((tenant, _)) => format!("{tenant}.conn.{connection}"),
        None => address.to_owned(),
    }
}

async fn arrives(publisher: &Publisher, stream: &mut Stream, subject: &str, example: &Value) -> Result<()> {
    let headers = example["headers"].as_object().context("headers")?;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
    publisher.publish_with(subject, &headers, &text(&example["payload"])).await?;
    let event = stream.event().await?;
    ensure!(json!({"event": event.name, "data": event.data}) == example["arrives"], "{event:?}");
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    ensure!(stream.retry.map(|ms| ms.to_string()).as_deref() == header("Sse-Retry"), "{:?}", stream.retry);
    let ends = header("Sse-Complete") == Some("true");
    ensure!(event.id.ends_with("-end") == ends, "{event:?}");
    ensure!(!ends || stream.next(SOON).await?.is_none(), "it goes on");
    Ok(())
}

/// What was asked of a connection is done.
async fn obeyed(gateway: &Gateway, connection: &str, stream: &mut Stream, operation: &Value) -> Result<()> {
    let topics = |joined: bool| if joined { json!(["orders.eu", "room.7"]) } else { json!(["orders.eu"]) };
    match operation["op"].as_str().context("an operation")? {
        "ping" => stream.until_raw(":heartbeat\n\n", SOON).await,
        "disconnect" => stream.to_end(SOON).await,
        "tag" => listed(gateway, connection, "tags", &json!({"plan": "gold"})).await,
        op => listed(gateway, connection, "topics", &topics(op == "join")).await,
    }
}

/// The admin port lists a connection so.
async fn listed(gateway: &Gateway, connection: &str, field: &str, expected: &Value) -> Result<()> {
    eventually("a connection as it was asked to be", SOON, || async {
        let page: Value = serde_json::from_str(&gateway.get("/status?connections").await?.1)?;
        let all = page["items"].as_array().context("a list")?;
        let one = all.iter().find(|one| one["id"] == connection).context("the connection")?;
        ensure!(one[field] == *expected, "{one}");
        Ok(())
    })
    .await
}

/// What the example says was refused is, and is told as it says, but for its place.
async fn dead(publisher: &Publisher, example: &Value) -> Result<()> {
    let expected = example["headers"].as_object().context("headers")?;
    let mut letters = publisher.client.subscribe(text(&example["address"])).await?;
    publisher.client.flush().await?;
    let payload = text(&example["payload"]);
    let sequence = publisher.publish(&text(&expected["Sse-Dead-Subject"]), &payload).await?.to_string();
    let letter = timeout(SOON, letters.next()).await.context("no letter")?.context("a letter")?;
    ensure!(letter.payload == payload, "{letter:?}");
    let headers = letter.headers.unwrap_or_default();
    ensure!(headers.len() == expected.len(), "{headers:?}");
    for (name, value) in expected {
        let told = headers.get(name.as_str()).with_context(|| name.clone())?.as_str();
        let good = match name.as_str() {
            "Nats-Msg-Id" => told.split_once('-').is_some_and(|(_, place)| place == sequence),
            "Sse-Dead-Sequence" => told == sequence,
            _ => told == text(value),
        };
        ensure!(good, "{name}: {told}");
    }
    Ok(())
}
