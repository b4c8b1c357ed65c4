//! An event that is posted again under its name is one event, whatever happened to NATS meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nsc::Accounts;
use sse_tests::process::{Gateway, Nats};
use sse_tests::proxy::Proxy;
use tokio::time::timeout;

use super::{gateway, place, service};

#[tokio::test]
async fn a_duplicate_is_answered_with_the_place_of_the_first_and_ids_are_the_tenants_own() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let (acme, other) = (service(&gateway, "acme", &json!(">")), service(&gateway, "other", &json!(">")));
    let named = [("nats-msg-id", "order:7")];
    let first = place(&acme.post("user.alice", &named, "once").await?)?;
    assert_eq!(place(&acme.post("user.alice", &named, "once").await?)?, first);
    assert_ne!(place(&other.post("user.alice", &named, "theirs").await?)?, first);
    // Without a name each is an event of its own.
    assert_ne!(
        place(&acme.post("all", &[], "again").await?)?,
        place(&acme.post("all", &[], "again").await?)?
    );
    place(&acme.post("all", &[], "end").await?)?;
    assert_eq!(stream.until("end").await?, ["once", "again", "again", "end"]);
    // Whoever publishes to NATS spells the tenant out, and means the same event.
    let publisher = nats.publisher().await?;
    let sequence =
        publisher.publish_with("sse.acme.user.alice", &[("Nats-Msg-Id", "acme:order:7")], "").await?;
    assert!(first.ends_with(&format!("-{sequence}")), "{first} {sequence}");
    Ok(())
}

#[tokio::test]
async fn what_is_repeated_until_it_is_accepted_comes_once_and_in_order_while_nats_is_killed() -> Result<()> {
    let mut nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let shop = service(&gateway, "acme", &json!("user.*"));
    let publishing = tokio::spawn({
        let shop = shop.clone();
        async move {
            let mut ids = Vec::new();
            for i in 0..400 {
                let name = i.to_string();
                let id = eventually("an event that is accepted", Duration::from_secs(30), || async {
                    place(&shop.post("user.alice", &[("nats-msg-id", &name)], name.clone()).await?)
                });
                ids.push((name.clone(), id.await?));
            }
            anyhow::Ok(ids)
        }
    });
    let mut seen = Vec::new();
    for kill_at in [50, 200] {
        while seen.len() < kill_at {
            let event = stream.event().await?;
            seen.push((event.data, event.id));
        }
        nats.kill().await?;
        eventually("posts refused", Duration::from_secs(10), || async {
            let answer = shop.post("user.nobody", &[], "x").await?;
            ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
            Ok(())
        })
        .await?;
        nats.restart().await?;
    }
    while seen.len() < 400 {
        let event = stream.next(Duration::from_secs(30)).await?.context("an open stream")?;
        seen.push((event.data, event.id));
    }
    let ids = publishing.await??;
    ensure!(seen == ids, "{:?}", seen.iter().zip(&ids).find(|(seen, answered)| seen != answered));
    Ok(())
}

#[tokio::test]
async fn a_place_is_never_told_in_a_log_that_is_gone() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let shop = service(&gateway, "acme", &json!("all"));
    for i in 0..20 {
        place(&shop.post("all", &[], i.to_string()).await?)?;
    }
    let publisher = nats.publisher().await?;
    publisher.jetstream.delete_stream("SSE_sse").await?;
    // As fast as can be: what is new may be there before the gateway knows of it.
    let accepted = async {
        loop {
            let answer = shop.post("all", &[], "new").await?;
            if answer.status == 202 {
                break place(&answer);
            }
            ensure!(answer.status == 503, "{answer:?}");
        }
    };
    let id = timeout(Duration::from_secs(20), accepted).await??;
    let position = gateway.client("acme", "alice").open("").await?.position().await?;
    let epoch = |cursor: &str| cursor.split('-').next().map(str::to_owned);
    ensure!(epoch(&id) == epoch(&position), "{id} in the log of {position}");
    Ok(())
}

#[tokio::test]
async fn nats_that_does_not_answer_is_waited_for_only_so_long_and_what_was_posted_is_one_event() -> Result<()>
{
    let nats = Nats::start().await?;
    let line = Proxy::start(nats.address()).await?;
    let url = format!("nats://{}", line.address);
    let gateway = Gateway::start_at(&url, "tests/gateway", json!({"publish": {"enabled": true}}))?;
    gateway.ready().await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let shop = service(&gateway, "acme", &json!(">"));
    line.hold();
    let named = [("nats-msg-id", "1")];
    let answer = shop.post("user.alice", &named, "late").await?;
    ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
    line.open();
    let id = eventually("an event that is accepted", Duration::from_secs(30), || async {
        place(&shop.post("user.alice", &named, "late").await?)
    });
    let id = id.await?;
    place(&shop.post("all", &[], "end").await?)?;
    let event = stream.event().await?;
    assert_eq!((event.data.as_str(), &event.id), ("late", &id));
    assert_eq!(stream.event().await?.data, "end");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_may_not_publish_says_so_without_naming_a_user() -> Result<()> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sse-gateway/README.md");
    let narrow = tempfile::NamedTempFile::new()?;
    let text = std::fs::read_to_string(readme)?;
    let all = r#"--allow-pub "sse.>,sse-dead.>"#;
    ensure!(text.contains(all), "the README says it otherwise");
    std::fs::write(&narrow, text.replace(all, r#"--allow-pub "sse._sys.>,sse-dead.>"#))?;
    let accounts = Accounts::documented(narrow.path())?;
    let nats = Nats::start_with(&accounts.server).await?;
    let patch = json!({"publish": {"enabled": true}, "limits": {"maxPayloadBytes": 2_000_000},
        "nats": {"credentialsSecretRef": {"name": "creds", "key": "nats.creds"}}});
    let gateway = Gateway::start_unready(&nats, "default/live", patch)?;
    gateway.write_secret("creds", "nats.creds", &accounts.credentials("gateway")?)?;
    gateway.ready().await?;
    let shop = service(&gateway, "acme", &json!(">"));
    // The gateway's log and metrics are searched for the user when it ends.
    drop(gateway.client("acme", "permitted-nowhere"));
    let answer = shop.post("user.permitted-nowhere", &[], "x").await?;
    ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
    let log = gateway.log();
    ensure!(log.contains("An event that came over HTTP was not stored."), "{log}");
    ensure!(log.contains("sse.acme.…"), "{log}");
    // What the server is too small for is told as what it is.
    let answer = shop.post("all", &[], vec![b'x'; 1_500_000]).await?;
    ensure!(answer.status == 413, "{answer:?}");
    Ok(())
}
