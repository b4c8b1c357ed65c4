//! A limit of messages per subject: it leaves holes inside the log, which clients are told.

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;

#[tokio::test]
async fn a_cursor_older_than_what_its_subjects_kept_is_expired_and_another_is_not() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"nats": {"stream": {"maxMessagesPerSubject": 5}}});
    let mut gateway = Gateway::start(&nats, patch).await?;
    let publisher = nats.publisher().await?;
    let (alice, bob) = (gateway.client("acme", "alice"), gateway.client("acme", "bob"));
    let start = alice.open("").await?.position().await?;
    let mut last = 0;
    for i in 0..20 {
        last = publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
        if i < 3 {
            publisher.publish("sse.acme.user.bob", &i.to_string()).await?;
        }
    }
    // The ring of a pod that saw them all has them all.
    let mut stream = alice.open(&start).await?;
    let all: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    ensure!(stream.until("19").await? == all);
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    let mut stream = alice.open(&start).await?;
    let reset = stream.event().await?;
    ensure!((reset.name.as_str(), reset.data.as_str()) == ("reset", r#"{"reason":"expired"}"#), "{reset:?}");
    ensure!(stream.until("19").await? == ["15", "16", "17", "18", "19"]);
    // Nothing of hers is missing after this one, and of his nothing at all.
    let epoch = start.split('-').next().expect("an epoch");
    let mut stream = alice.open(&format!("{epoch}-{}", last - 3)).await?;
    ensure!(stream.until("19").await? == ["17", "18", "19"]);
    ensure!(bob.open(&start).await?.until("2").await? == ["0", "1", "2"]);
    Ok(())
}
