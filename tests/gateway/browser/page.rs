//! What happens to the page: hidden, shown, frozen; to its clock; and to a line that dies in silence.

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::proxy::Proxy;

use super::World;

#[tokio::test]
async fn a_tab_that_was_hidden_or_frozen_sees_what_it_missed_once_and_in_order() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    world.connect(0, "hiddenAfter: 300").await?;
    let mut numbers = world.publishing();
    numbers.more(5).await?;
    // The next tab hides it.
    world.connect(1, "").await?;
    world.state(0, "paused", 1).await?;
    world.until_streams(1).await?;
    numbers.more(20).await?;
    world.browser.act(json!({"do": "show", "tab": 0})).await?;
    world.opened(0, 2).await?;
    // The other one stays, hidden as it is, until it is frozen.
    ensure!(world.browser.states(1) == ["connecting", "open"], "{:?}", world.browser.states(1));
    world.browser.act(json!({"do": "freeze", "tab": 1})).await?;
    world.until_streams(1).await?;
    numbers.more(20).await?;
    world.browser.act(json!({"do": "thaw", "tab": 1})).await?;
    world.opened(1, 2).await?;
    numbers.more(10).await?;
    let last = numbers.end().await?;
    world.see(&[0], 1, last).await?;
    let first = world.browser.seen(1)[0].data.parse()?;
    world.see(&[1], first, last).await
}

#[tokio::test]
async fn a_step_of_the_clock_either_way_costs_no_event_and_sleep_is_noticed() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    let script = world.script("connect", "");
    world.browser.act(json!({"do": "open", "tab": 0, "script": script, "clock": true})).await?;
    world.opened(0, 1).await?;
    let mut numbers = world.publishing();
    numbers.more(10).await?;
    world.browser.act(json!({"do": "step", "tab": 0, "to": "2001-01-01T00:00:00Z"})).await?;
    numbers.more(40).await?;
    ensure!(world.browser.states(0) == ["connecting", "open"], "nothing is amiss");
    world.browser.act(json!({"do": "step", "tab": 0, "to": "2077-01-01T00:00:00Z"})).await?;
    numbers.more(40).await?;
    let opened = world.browser.states(0).iter().filter(|state| *state == "open").count();
    // An hour's sleep: the line may have died meanwhile, so it takes another.
    world.browser.act(json!({"do": "skip", "tab": 0, "ms": 3_600_000})).await?;
    world.opened(0, opened + 1).await?;
    numbers.more(10).await?;
    let last = numbers.end().await?;
    world.see(&[0], 1, last).await?;
    world.until_streams(1).await
}

#[tokio::test]
async fn a_line_that_died_in_silence_is_given_up_and_a_quiet_one_is_not() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    let line = Proxy::start(world.balancer.address).await?;
    world.connect(0, &format!(r#"url: "http://{}/api/v1/sse""#, line.address)).await?;
    world.connect(1, "").await?;
    world.connect(2, r#"transport: "eventsource""#).await?;
    world.publisher.publish("sse.acme.user.alice", "1").await?;
    world.see(&[0, 1, 2], 1, 1).await?;
    line.hold();
    // Three heartbeats are missing.
    world.state(0, "waiting", 1).await?;
    world.publisher.publish("sse.acme.user.alice", "2").await?;
    line.open();
    world.opened(0, 2).await?;
    world.publisher.publish("sse.acme.user.alice", "3").await?;
    world.see(&[0, 1, 2], 1, 3).await?;
    for tab in [1, 2] {
        ensure!(world.browser.states(tab) == ["connecting", "open"], "{:?}", world.browser.states(tab));
    }
    Ok(())
}
