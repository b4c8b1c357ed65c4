//! Tabs that share a stream over HTTP/1.1, of which a browser has six connections.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::eventually;

use super::{ROUND, World};

#[tokio::test]
async fn eight_tabs_share_one_stream_and_each_sees_each_event_once_whoever_leads() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    let script = world.script("connectShared", r#"key: "acme/alice""#);
    for tab in 0..8 {
        world.browser.open(tab, &script).await?;
        world.opened(tab, 1).await?;
    }
    ensure!(world.streams().await? == 1, "more than one stream");
    let mut numbers = world.publishing();
    numbers.more(30).await?;
    // The leader is the first that came. It goes, and later its pod.
    world.browser.act(json!({"do": "close", "tab": 0})).await?;
    world.opened(7, 2).await?;
    numbers.more(30).await?;
    for gateway in [&mut world.one, &mut world.two] {
        gateway.kill().await?;
        gateway.restart()?;
        gateway.ready().await?;
    }
    world.opened(7, 3).await?;
    // One that comes now sees what comes from now on.
    world.browser.open(8, &script).await?;
    world.opened(8, 1).await?;
    let before = numbers.more(10).await?;
    // The next leader is frozen, as is one that only listens: others go on, and they miss nothing.
    for tab in [1, 5] {
        world.browser.act(json!({"do": "freeze", "tab": tab})).await?;
    }
    world.opened(7, 4).await?;
    let frozen = numbers.more(50).await?;
    for tab in [1, 5] {
        let slept = world.browser.seen(tab).pop().context("an event")?.data.parse::<u64>()?;
        ensure!(slept < frozen, "tab {tab} is awake");
        world.browser.act(json!({"do": "thaw", "tab": tab})).await?;
    }
    numbers.more(30).await?;
    let last = numbers.end().await?;
    world.see(&[1, 2, 3, 4, 5, 6, 7], 1, last).await?;
    let first = world.browser.seen(8).first().context("an event")?.data.parse()?;
    ensure!(first <= before, "{first} of {before}");
    world.see(&[8], first, last).await?;
    for tab in 1..9 {
        ensure!(world.browser.told(tab).iter().all(|told| told["reset"].is_null()), "a gap in {tab}");
    }
    world.until_streams(1).await
}

#[tokio::test]
async fn tabs_of_two_users_share_nothing_and_all_end_with_their_stream() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    let alice = world.script("connectShared", r#"key: "acme/alice""#);
    let bob = format!(r#"key: "acme/bob", getJwt: () => "{}""#, sse_tests::jwt::jwt("acme", "bob"));
    let bob = world.script("connectShared", &bob);
    for (tab, script) in [(0, &alice), (1, &alice), (2, &bob)] {
        world.browser.open(tab, script).await?;
        world.opened(tab, 1).await?;
    }
    ensure!(world.streams().await? == 2);
    world.publisher.publish("sse.acme.user.bob", "1").await?;
    world.see(&[2], 1, 1).await?;
    world.publisher.publish_with("sse.acme.user.alice", &[("Sse-Complete", "true")], "1").await?;
    for tab in [0, 1] {
        // One that has its turn before it is told why the leader went asks itself, and hears it from the gateway.
        eventually("an end", ROUND, || async {
            let last = world.browser.states(tab).pop();
            ensure!(
                matches!(last.as_deref(), Some("complete" | "complete 204")),
                "{:?}",
                world.browser.told(tab)
            );
            Ok(())
        })
        .await?;
        world.see(&[tab], 1, 1).await?;
    }
    ensure!(world.browser.seen(2).len() == 1);
    world.until_streams(1).await
}

#[tokio::test]
async fn without_sharing_the_seventh_tab_waits_until_another_goes() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    for tab in 0..6 {
        world.connect(tab, "").await?;
    }
    let script = world.script("connect", "");
    world.browser.open(6, &script).await?;
    world.state(6, "waiting", 1).await?;
    ensure!(world.streams().await? == 6 && !world.browser.states(6).contains(&"open".to_owned()));
    world.browser.act(json!({"do": "close", "tab": 0})).await?;
    world.opened(6, 1).await?;
    world.until_streams(6).await
}
