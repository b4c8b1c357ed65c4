//! What happens to the pods and to NATS, under four tabs: by fetch with a token, by fetch with a Bearer as the
//! EventSource-like object, by the browser's EventSource with tokens, and by that with a cookie.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::jwt::jwt;

use super::{Numbers, ROUND, World};

const TABS: [u64; 4] = [0, 1, 2, 3];

/// As code for an EventSource has it.
const SOURCE: &str = r"
    (({ url, onEvent, ...options }) => {
        const source = new GatewayEventSource(url, options);
        source.onmessage = ({ type, lastEventId, data }) => onEvent({ type, id: lastEventId, data });
        return source;
    })";

async fn four_tabs() -> Result<(World, Numbers)> {
    let mut world = World::start(json!({})).await?;
    let cookie = jwt("acme", "alice");
    world.browser.act(json!({"do": "cookie", "name": "session", "value": cookie})).await?;
    world.connect(0, "").await?;
    let script = world.script(SOURCE, r#"mode: "bearer""#);
    world.browser.open(1, &script).await?;
    world.opened(1, 1).await?;
    world.connect(2, r#"transport: "eventsource""#).await?;
    world.connect(3, r#"transport: "eventsource", mode: "cookie""#).await?;
    ensure!(world.streams().await? == 4);
    for gateway in [&world.one, &world.two] {
        ensure!(gateway.status().await?["connections"] != 0, "one of them has no stream");
    }
    let mut numbers = world.publishing();
    numbers.more(10).await?;
    Ok((world, numbers))
}

/// Waits until both serve again what was broken, and sees that nobody missed or saw twice anything.
async fn all_seen(world: &World, mut numbers: Numbers) -> Result<()> {
    world.until_streams(4).await?;
    numbers.more(10).await?;
    let last = numbers.end().await?;
    world.see(&TABS, 1, last).await
}

#[tokio::test]
async fn each_event_is_seen_once_and_in_order_when_pods_are_killed() -> Result<()> {
    let (mut world, mut numbers) = four_tabs().await?;
    world.one.kill().await?;
    eventually("all streams at the other", ROUND, || async {
        ensure!(world.two.status().await?["connections"] == 4);
        Ok(())
    })
    .await?;
    numbers.more(10).await?;
    world.one.restart()?;
    world.one.ready().await?;
    world.two.kill().await?;
    numbers.more(10).await?;
    world.two.restart()?;
    world.two.ready().await?;
    all_seen(&world, numbers).await
}

#[tokio::test]
async fn each_event_is_seen_once_and_in_order_when_pods_drain() -> Result<()> {
    let (mut world, mut numbers) = four_tabs().await?;
    world.one.terminate()?;
    ensure!(world.one.exit_code(Duration::from_secs(30)).await? == 0);
    numbers.more(10).await?;
    world.one.restart()?;
    world.one.ready().await?;
    world.two.terminate()?;
    ensure!(world.two.exit_code(Duration::from_secs(30)).await? == 0);
    numbers.more(10).await?;
    world.two.restart()?;
    world.two.ready().await?;
    all_seen(&world, numbers).await
}

#[tokio::test]
async fn each_event_is_seen_once_and_in_order_when_nats_is_restarted() -> Result<()> {
    let (mut world, mut numbers) = four_tabs().await?;
    world.nats.kill().await?;
    // Who comes now is refused, and comes back when NATS does.
    world.one.kill().await?;
    world.state(0, "connecting", 2).await?;
    world.nats.restart().await?;
    numbers.more(10).await?;
    world.one.restart()?;
    world.one.ready().await?;
    all_seen(&world, numbers).await
}
