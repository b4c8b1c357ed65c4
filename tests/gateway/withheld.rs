//! A log that can not be read while a feed with a gap is flooded. What comes meanwhile is in the log, and so it is not
//! kept in memory; when the log can be read again, it all arrives.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::nats::{Nats, heard_and_mute};
use sse_tests::process::Gateway;
use sse_tests::publisher::Publisher;
use sse_tests::{eventually, proc};

/// Bytes of an event, and how many there are.
const LARGE: usize = 16_000;
const MANY: usize = 10_000;
/// Each so many is for somebody who is here.
const SOME: usize = 100;
/// What the gateway may take for them: it keeps recent events, as many as fit into 32 MiB, and nothing for the others.
const MAY_GROW: usize = 96 << 20;
/// For all events, on a machine that is busy.
const ROUND: Duration = Duration::from_mins(1);

/// Users of NATS: the gateway, which names none, may not publish to these subjects.
fn users(denied: &str) -> String {
    format!(
        r#"
        accounts {{ APP {{ jetstream: enabled, users: [
          {{user: gateway, password: gateway, permissions: {{publish: {{allow: ">", deny: [{denied}]}}, subscribe: ">"}}}}
          {{user: service, password: service}}
        ] }} }}
        no_auth_user: gateway
        "#
    )
}

#[tokio::test]
async fn what_comes_while_the_log_can_not_be_read_is_not_kept_in_memory_and_not_lost() -> Result<()> {
    let mut nats = Nats::start_with(&users(r#""$JS.API.DIRECT.GET.>""#)).await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let service = Publisher::connect(&format!("nats://service:service@{}", nats.address())).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    service.publish("sse.acme.user.alice", "first").await?;
    stream.until("first").await?;
    let (heard, mute) = heard_and_mute(&service.jetstream).await?;
    service.jetstream.update_stream(mute).await?;
    service.publish("sse.acme.user.alice", "lost").await?;
    service.jetstream.update_stream(heard).await?;

    let before = proc::peak(gateway.id()?)?;
    let padding = "x".repeat(LARGE);
    for number in 0..MANY {
        let user = if number % SOME == 0 { "alice" } else { "bob" };
        service.publish(&format!("sse.acme.user.{user}"), &format!("{number} {padding}")).await?;
    }
    eventually("the gap to be seen", ROUND, || async {
        ensure!(gateway.log().contains("The live feed is interrupted"), "{}", gateway.log());
        Ok(())
    })
    .await?;
    let grown = proc::peak(gateway.id()?)? - before;
    println!("{} MiB came, and {} MiB were taken", (LARGE * MANY) >> 20, grown >> 20);
    ensure!(grown < MAY_GROW, "{} MiB", grown >> 20);

    nats.kill().await?;
    nats.configure(&users(""))?;
    nats.restart().await?;
    service.insist("sse.acme.user.alice", "acme:last", "last").await?;
    ensure!(stream.event().await?.data == "lost");
    for number in (0..MANY).step_by(SOME) {
        let event = stream.event().await?;
        let seen = event.data.split(' ').next().context("a number")?;
        ensure!(seen == number.to_string(), "{seen} and not {number}");
    }
    ensure!(stream.event().await?.data == "last");
    Ok(())
}
