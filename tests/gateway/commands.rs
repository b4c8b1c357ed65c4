//! Commands of the documentation that need no cluster, as they stand but for the host: curl against a gateway, and what
//! NATS' own command is given.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::future::try_join_all;
use serde_json::json;
use sse_tests::jwt::jwt_with;
use sse_tests::pages::shell::Shell;
use sse_tests::pages::{Block, documented, nats, with};
use sse_tests::process::{Gateway, Nats};

/// How the documentation calls a gateway.
const HOST: &str = "https://live.example.com";
const SOON: Duration = Duration::from_secs(10);

fn those_with(words: &str) -> Result<Vec<Block>> {
    let all = documented(file!())?;
    Ok(all.into_iter().filter(|block| block.text.contains(words)).collect())
}

#[tokio::test]
async fn each_line_with_curl_in_the_documentation_works() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"publish": {"enabled": true}})).await?;
    let jwt = jwt_with("acme", "alice", json!({"topics": ["orders.>"], "publish": [">"]}));
    let here = format!("http://{}", gateway.address);
    let all = those_with("curl ")?;
    ensure!(all.len() >= 4, "{all:#?}");
    try_join_all(all.iter().map(async |block| {
        let expected = if block.text.contains("/stream?") { ":connected\n" } else { r#"{"id":""# };
        Shell::of([block])?.with(HOST, &here).knowing("JWT", &jwt).prints(expected).await
    }))
    .await
    .map(drop)
}

#[tokio::test]
async fn a_notification_reaches_its_client_by_type_and_data_and_the_log_keeps_the_rest() -> Result<()> {
    let server = Nats::start().await?;
    let gateway = Gateway::start(&server, json!({"publish": {"enabled": true}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let jwt = jwt_with("acme", "shop-service", json!({"publish": ["user.*"]}));
    let here = format!("http://{}", gateway.address);
    let command = || anyhow::Ok(Shell::of([with(&documented(file!())?, "ce-severity")?])?.with(HOST, &here));
    command()?.knowing("JWT", &jwt).prints(r#"{"id":""#).await?;
    let event = stream.event().await?;
    let seen = (event.name.as_str(), event.data.as_str());
    assert_eq!(seen, ("order.shipped", r#"{"orderId":42,"severity":"warning"}"#));
    let text = String::from_utf8_lossy(&stream.raw).into_owned();
    ensure!(
        !text.contains("order/42") && !text.contains("6f1c2a9b-") && !text.contains("2026-03-01"),
        "{text}"
    );
    let log = server.publisher().await?.jetstream.get_stream("SSE_sse").await?;
    let sequence = event.id.rsplit('-').next().context("a place")?.parse()?;
    let headers = log.get_raw_message(sequence).await?.headers;
    for (name, value) in [
        ("Nats-Msg-Id", "acme:6f1c2a9b"),
        ("ce-id", "6f1c2a9b"),
        ("ce-severity", "warning"),
        ("ce-subject", "order/42"),
        ("ce-time", "2026-03-01T12:00:00Z"),
    ] {
        let kept = headers.get(name).map(async_nats::HeaderValue::as_str);
        ensure!(kept == Some(value), "{name}: {headers:?}");
    }
    // A record that is sent again is the same event.
    command()?.knowing("JWT", &jwt).prints(&event.id).await?;
    Ok(())
}

#[tokio::test]
async fn what_the_readme_publishes_reaches_whom_it_says() -> Result<()> {
    let server = Nats::start().await?;
    let gateway = Gateway::start(&server, json!({})).await?;
    let alice = gateway.client("acme", "alice").with_claims("acme", "alice", json!({"topics": ["orders.>"]}));
    let mut stream = alice.open_with("&topics=orders.*").await?;
    let asked = Shell::of([with(&documented(file!())?, "nats pub ")?])?.run().await?.asked;
    let publisher = server.publisher().await?;
    for call in &asked {
        nats::done(call, &publisher).await?;
    }
    for (kind, data) in [
        ("order.shipped", r#"{"orderId":42}"#),
        ("message", r#"{"orderId":42}"#),
        ("message", "Lunch?"),
        ("message", "Maintenance at noon."),
    ] {
        let event = stream.event().await?;
        ensure!((event.name.as_str(), event.data.as_str()) == (kind, data), "{event:?}");
    }
    ensure!(asked.len() == 4, "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_gateway_leaves_in_nats_is_removed_as_the_documentation_says() -> Result<()> {
    let server = Nats::start().await?;
    let mut gateway = Gateway::start_unready(&server, "default/live", json!({}))?;
    gateway.ready().await?;
    gateway.client("acme", "alice").token().await?;
    gateway.kill().await?;
    let publisher = server.publisher().await?;
    let report = nats::done(&["stream".into(), "report".into()], &publisher).await?;
    ensure!(report.lines().count() == 2, "{report}");
    for call in Shell::of([with(&documented(file!())?, "nats stream rm")?])?.run().await?.asked {
        nats::done(&call, &publisher).await?;
    }
    let left = nats::done(&["stream".into(), "report".into()], &publisher).await?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_where_the_runbook_looks() -> Result<()> {
    let server = Nats::start().await?;
    let _gateway = Gateway::start(&server, json!({})).await?;
    let asked = Shell::of([with(&documented(file!())?, "nats sub")?])?.run().await?.asked;
    let [call] = &asked[..] else { anyhow::bail!("{asked:?}") };
    let subject = call.get(1).context("a subject")?.clone();
    let publisher = server.publisher().await?;
    let mut letters = publisher.client.subscribe(subject).await?;
    publisher.client.flush().await?;
    publisher.publish("sse.acme.nowhere", "lost").await?;
    let letter = tokio::time::timeout(SOON, letters.next()).await?.context("a letter")?;
    ensure!(&letter.payload[..] == b"lost", "{letter:?}");
    Ok(())
}

#[tokio::test]
async fn make_help_tells_of_each_target() -> Result<()> {
    let told = Shell::of([with(&documented(file!())?, "make help")?])?.run().await?.printed;
    ensure!(["make demo ", "make test ", "make dev "].iter().all(|target| told.contains(target)), "{told}");
    Ok(())
}
