//! A token is redeemed once, by whoever is first, on whichever pod.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sse_tests::client::{Client, redeem_at_once};
use sse_tests::process::{Gateway, Nats};

#[tokio::test]
async fn of_fifty_redemptions_on_two_pods_exactly_one_wins() -> Result<()> {
    let nats = Nats::start().await?;
    let first = Gateway::start(&nats, json!({})).await?;
    let second = Gateway::start(&nats, json!({})).await?;
    let client = first.client("acme", "alice");
    for round in 0..5 {
        let racer = |i| {
            let address = if i % 2 == 0 { first.address } else { second.address };
            Client { gateway: address.into(), ..client.clone() }
        };
        let answers = redeem_at_once((0..50).map(racer).collect(), &client.token().await?).await?;
        let mut expected = vec![401; 50];
        expected[0] = 204;
        assert_eq!(answers, expected, "round {round}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_gone_after_its_time_and_after_its_use() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"token": {"ttlSeconds": 5}})).await?;
    let client = gateway.client("acme", "alice");
    let answer = client.ask_token().await?;
    assert_eq!((answer.status.as_u16(), &answer.headers["cache-control"]), (200, &"no-store".parse()?));
    let used = client.token().await?;
    // One for each look: a look uses a token up.
    let mut late = Vec::new();
    for _ in 0..200 {
        late.push(client.token().await?);
    }
    let status = async |token: &str| {
        let path = format!("/api/v1/sse/stream?token={token}&lastEventId=00000000-1-end");
        client.request(hyper::Method::GET, &path, &[]).await.map(|answer| answer.status.as_u16())
    };
    assert_eq!(status(&used).await?, 204);
    assert_eq!(status(&used).await?, 401);
    assert_eq!(status(&"0".repeat(32)).await?, 401);
    assert_eq!(status(&late[0].to_uppercase()).await?, 401);
    let late = Mutex::new(late);
    let next = || late.lock().expect("no panic").pop().expect("enough tokens");
    assert_eq!(status(&next()).await?, 204);
    sse_tests::eventually("a token refused for its age", Duration::from_secs(9), || async {
        let status = status(&next()).await?;
        anyhow::ensure!(status == 401, "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_token_is_good_only_at_the_gateway_that_minted_it() -> Result<()> {
    let nats = Nats::start().await?;
    let one = Gateway::start(&nats, json!({})).await?;
    let patch = json!({"nats": {"stream": {"managed": false}}});
    let other = Gateway::start_unready(&nats, "tests/other", patch)?;
    other.ready().await?;
    let mut client = one.client("acme", "alice");
    let token = client.token().await?;
    client.gateway = other.address.into();
    let path = format!("/api/v1/sse/stream?token={token}");
    assert_eq!(client.request(hyper::Method::GET, &path, &[]).await?.status, 401);
    Ok(())
}
