//! Several pods of one gateway: how many streams a user has, counted across them.

use std::time::Duration;

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::json;
use sse_tests::client::{Client, Stream};
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};

/// As long as it may take until pods know each other, or that one has gone.
const KNOWN: Duration = Duration::from_secs(20);

/// Opens streams until one is refused, which must be the last of so many.
async fn room_for(client: Client, streams: usize) -> Result<Vec<Stream>> {
    let mut open = Vec::new();
    let refused = loop {
        match client.open("").await {
            Ok(_) if open.len() == streams => anyhow::bail!("room for more than {streams}"),
            Ok(stream) => open.push(stream),
            Err(error) => break error.to_string(),
        }
    };
    ensure!(open.len() == streams && refused.contains("429"), "{} opened, then {refused}", open.len());
    Ok(open)
}

#[tokio::test]
async fn the_streams_of_a_user_are_counted_across_pods_that_come_and_go() -> Result<()> {
    let nats = Nats::start().await?;
    let auth = json!({"modes": ["Token", "Cookie"], "cookie": {"name": "session"}});
    let spec = json!({"limits": {"maxConnectionsPerUser": 10}, "auth": auth});
    let pod = || Gateway::start(&nats, spec.clone());
    let (mut one, two) = (pod().await?, pod().await?);
    let alice = |pod: &Gateway| pod.client("acme", "alice");
    let mut at_one = Vec::new();
    for _ in 0..6 {
        at_one.push(alice(&one).open("").await?);
    }
    // One more than the limit, since what a pod knows of another is a moment old.
    let at_two = eventually("six and five", KNOWN, || room_for(alice(&two), 5)).await?;
    eventually("no room at the first either", KNOWN, || room_for(alice(&one), 0)).await?;
    // Where the others may be gone a native EventSource, which would give up for good, is asked to come back.
    let cookie = format!("session={}", jwt("acme", "alice"));
    let path = "/api/v1/sse/stream";
    let answer = one.client("acme", "alice").request(Method::GET, path, &[("cookie", &cookie)]).await?;
    ensure!(answer.status == 200 && answer.body.starts_with("retry: "), "{answer:?}");
    two.client("acme", "bob").open("").await?;
    two.client("other", "alice").open("").await?;

    // A pod that joins is told; and what goes makes room.
    let three = pod().await?;
    eventually("no room at the new one", KNOWN, || room_for(alice(&three), 0)).await?;
    drop(at_one.drain(..3));
    eventually("as much room as was given back", KNOWN, || room_for(alice(&three), 3)).await?;
    one.kill().await?;
    let _at_three = eventually("the dead pod forgotten", KNOWN, || room_for(alice(&three), 6)).await?;
    drop(at_two);
    Ok(())
}
