//! Credentials that end, are refused or are kept too long, streams that are completed, gaps, and the README's lines.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::jwt::{jwt, jwt_with, now};

use super::{ROUND, World};

fn ends_at(exp: u64) -> Result<String> {
    Ok(serde_json::to_string(&jwt_with("acme", "alice", json!({"exp": exp})))?)
}

#[tokio::test]
async fn credentials_that_end_are_replaced_and_so_are_tokens_that_were_kept_too_long() -> Result<()> {
    let mut world = World::start(json!({"token": {"ttlSeconds": 5}})).await?;
    let mut numbers = world.publishing();
    // A page that keeps its JWT until it is told that it will not do: one is over, one ends soon, one is good.
    let cached = |first: u64| -> Result<String> {
        let jwts = [ends_at(first)?, ends_at(now() + 15)?, ends_at(now() + 3600)?].join(", ");
        Ok(format!(
            "getJwt: (() => {{ const jwts = [{jwts}]; return ({{ refused }}) => refused ? (jwts.shift(), tell({{ left: jwts.length }}), jwts[0]) : jwts[0]; }})()"
        ))
    };
    let own = format!(
        // It may take longer than the gateway's heartbeat.
        r#"lastEventId: "", heartbeat: 15000, getJwt: undefined, getToken: async () => {{
            const headers = {{ Authorization: "Bearer {}" }};
            const answer = await fetch("{}/token", {{ method: "POST", headers }});
            const { } = await answer.json();
            if (!window.late) await new Promise((resolve) => (window.late = setTimeout(resolve, 6500)));
            return token;
        }}"#,
        jwt("acme", "alice"),
        world.url(),
        "{ token }",
    );
    world.connect(0, &cached(now() - 60)?).await?;
    let soon = format!("{}, mode: \"bearer\"", cached(now() + 3)?);
    world.connect(1, &soon).await?;
    world.connect(2, &own).await?;
    ensure!(world.browser.states(0).contains(&"waiting 401".to_owned()), "{:?}", world.browser.states(0));
    ensure!(world.browser.states(2).contains(&"waiting 401".to_owned()), "{:?}", world.browser.states(2));
    // The second JWT of both ends, and they go on with the third. A slow browser may find the first over, too.
    for tab in [0, 1] {
        eventually("a stream by the third JWT", ROUND, || async {
            let told = world.browser.told(tab);
            let mut since = told.iter().skip_while(|told| told["left"] != 1);
            ensure!(since.any(|told| told["state"] == "open"), "tab {tab}: {:?}", world.browser.states(tab));
            Ok(())
        })
        .await?;
    }
    numbers.more(10).await?;
    let last = numbers.end().await?;
    for tab in [0, 1, 2] {
        let first = world.browser.seen(tab).first().context("an event")?.data.parse()?;
        world.see(&[tab], first, last).await?;
    }
    world.until_streams(3).await
}

#[tokio::test]
async fn it_stops_at_completion_and_where_it_may_not_be_and_a_gap_is_told() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    for number in 1..=20 {
        world.publisher.publish("sse.acme.user.alice", &number.to_string()).await?;
    }
    world.publisher.jetstream.get_stream("SSE_sse").await?.purge().sequence(15).await?;
    for gateway in [&mut world.one, &mut world.two] {
        gateway.kill().await?;
        gateway.restart()?;
        gateway.ready().await?;
    }
    let status = world.one.status().await?;
    let epoch = status["stream"]["epoch"].as_str().context("an epoch")?;
    for (tab, transport) in [(0, "fetch"), (1, "eventsource")] {
        let options = format!(r#"transport: "{transport}", lastEventId: "{epoch}-3""#);
        world.connect(tab, &options).await?;
    }
    for (tab, transport) in [(2, "fetch"), (3, "eventsource")] {
        let options = format!(r#"transport: "{transport}", topics: ["secrets"]"#);
        let script = world.script("connect", &options);
        world.browser.open(tab, &script).await?;
        world.state(tab, "refused 403", 1).await?;
    }
    let last = world.publisher.publish_with("sse.acme.user.alice", &[("Sse-Complete", "true")], "21").await?;
    for tab in [0, 1] {
        world.state(tab, "complete", 1).await?;
        let told: Vec<Value> =
            world.browser.told(tab).into_iter().filter(|told| told["state"].is_null()).collect();
        ensure!(told.first() == Some(&json!({"reset": "expired"})), "{told:?}");
        let oldest = world.browser.seen(tab).first().context("an event")?.data.parse()?;
        world.see(&[tab], oldest, 21).await?;
        let end = world.browser.seen(tab).pop().context("an event")?.id;
        ensure!(end == format!("{epoch}-{last}-end"), "{end}");
    }
    world.until_streams(0).await?;
    for tab in 0..4 {
        // One for the refusal, one more with another credential; EventSource has fetch ask why it was refused.
        let attempts = world.browser.states(tab).iter().filter(|state| *state == "connecting").count();
        ensure!(attempts <= [1, 1, 2, 4][usize::try_from(tab)?], "{:?}", world.browser.states(tab));
    }
    // With the place of the end, 204 says it.
    let script = world.script("connect", &format!(r#"lastEventId: "{epoch}-{last}-end""#));
    world.browser.open(4, &script).await?;
    world.state(4, "complete 204", 1).await
}

#[tokio::test]
async fn the_lines_of_the_readme_are_enough() -> Result<()> {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("\n## Connect\n").context("a section")?;
    let (_, rest) = section.split_once("```js\n").context("an example")?;
    let (example, _) = rest.split_once("```").context("its end")?;
    let mut world = World::start(json!({"topics": {"public": ["orders.*"]}})).await?;
    let here = format!("\"{}\"", world.url());
    ensure!(example.matches("\"/api/v1/sse\"").count() == 1, "{example}");
    let example = example.replace("\"/api/v1/sse\"", &here);
    let script = format!(
        r#"
        const jwt = "{}";
        const show = (type, data) => tell({{ type, id: "", data }});
        const reload = (reset) => tell({{ reset }});
        {example}"#,
        jwt("acme", "alice")
    );
    world.browser.open(0, &script).await?;
    world.until_streams(1).await?;
    world.publisher.publish("sse.acme.user.alice", "1").await?;
    world.publisher.publish("sse.acme.topic.orders.eu", "2").await?;
    world.see(&[0], 1, 2).await?;
    for gateway in [&mut world.one, &mut world.two] {
        gateway.kill().await?;
    }
    world.publisher.publish("sse.acme.user.alice", "3").await?;
    for gateway in [&mut world.one, &mut world.two] {
        gateway.restart()?;
        gateway.ready().await?;
    }
    world.see(&[0], 1, 3).await
}
