//! With exactly the NATS permissions that the chart's README documents.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::history::{Archive, SUBJECT};
use sse_tests::nats::Nats;
use sse_tests::nsc::Accounts;
use sse_tests::process::Gateway;
use sse_tests::publisher::Publisher;

#[tokio::test]
async fn the_documented_permissions_are_enough_and_no_more_than_that() -> Result<()> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sse-gateway/README.md");
    let accounts = Accounts::documented(&readme)?;
    let nats = Nats::start_with(&accounts.server).await?;
    let patch = json!({"nats": {"credentialsSecretRef": {"name": "creds", "key": "nats.creds"}},
        "publish": {"enabled": true}, "scaling": {"rebalance": true}, "replay": {"history": {"subject": SUBJECT}}});
    let mut gateway = Gateway::start_unready(&nats, "default/live", patch)?;
    gateway.write_secret("creds", "nats.creds", &accounts.credentials("gateway")?)?;
    gateway.ready().await?;
    let archive = Archive::start(&nats, Some(&accounts.credentials("history")?)).await?;

    let publisher = Publisher::with_credentials(&nats.url(), &accounts.credentials("publisher")?).await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    publisher.publish("sse.acme.user.alice", "hello").await?;
    stream.until("hello").await?;
    let service = client.with_claims("acme", "shop-service", json!({"publish": ["user.*"]}));
    let posted = service.post("user.alice", &[], "over HTTP").await?;
    ensure!(posted.status == 202, "{posted:?}");
    stream.until("over HTTP").await?;
    publisher.client.publish("sse-ctl.acme.user.alice", json!({"op": "ping"}).to_string().into()).await?;
    stream.until_raw(":heartbeat\n\n", Duration::from_secs(5)).await?;

    // Replay, repair and dead letters too: the log is read by a gateway that was away.
    let unlimited = Publisher::with_credentials(&nats.url(), &accounts.unlimited()?).await?;
    let mut letters = unlimited.client.subscribe("sse-dead.>").await?;
    unlimited.client.flush().await?;
    for i in 0..20 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    unlimited.publish("sse.acme.nowhere", "").await?;
    ensure!(tokio::time::timeout(Duration::from_secs(5), letters.next()).await?.is_some(), "no letter");
    let mut stored = unlimited.jetstream.get_stream("SSE_sse").await?;
    let (first, state) = (stream.last_id.clone(), stored.info().await?.state.clone());
    let (epoch, _) = first.split_once('-').context("a cursor")?;
    archive.has(&unlimited.client, epoch, state.last_sequence).await?;
    stored.delete_message(10).await?;
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    client.open(&stream.last_id).await?.until("19").await?;
    // And what it has no more, by the history service.
    stored.purge().sequence(state.last_sequence).await?;
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    ensure!(client.open(&first).await?.event().await?.data == "0");
    ensure!(!gateway.log().contains("ermissions"), "{}", gateway.log());
    ensure!(!nats.log().contains(" Violation"), "{}", nats.log());

    // What its pods tell each other is this gateway's alone.
    let mut words = unlimited.client.subscribe("sse-pods.default.live").await?;
    let word =
        tokio::time::timeout(Duration::from_secs(10), words.next()).await?.context("no word of a pod")?;
    let word: Value = serde_json::from_slice(&word.payload)?;
    ensure!(word["streams"].is_u64(), "{word}");

    // Nobody publishes what only the server republishes, nor speaks for the gateways or the platform.
    for subject in [
        "sse-live.acme.user.alice",
        "sse-dead.acme",
        "sse._sys.x",
        "sse._platform.all",
        "sse-pods.default.live",
    ] {
        ensure!(publisher.publish(subject, "no").await.is_err(), "{subject}");
    }
    let history = Publisher::with_credentials(&nats.url(), &accounts.credentials("history")?).await?;
    ensure!(history.publish("sse.acme.all", "no").await.is_err(), "the history service may publish");
    let denied = Publisher::with_credentials(&nats.url(), &accounts.credentials("gateway")?).await?;
    let mut forged = unlimited.client.subscribe("sse-live.>").await?;
    unlimited.client.flush().await?;
    denied.client.publish("sse-live.acme.all", "no".into()).await?;
    denied.client.flush().await?;
    unlimited.publish("sse.acme.all", "yes").await?;
    let first = tokio::time::timeout(Duration::from_secs(5), forged.next()).await?;
    ensure!(first.is_some_and(|message| message.payload == "yes"), "a gateway may publish to the feed");
    eventually("nothing refused to the gateway", Duration::from_secs(5), || async {
        let status = gateway.status().await?;
        ensure!(status["nats"]["connected"] == true, "{status}");
        Ok(())
    })
    .await
}

/// A server with one user, who may do everything but this.
fn without(subject: &str) -> String {
    let user =
        format!("{{user: limited, password: limited, permissions: {{publish: {{deny: \"{subject}\"}}}}}}");
    format!("accounts {{ APP {{ jetstream: enabled, users: [{user}] }} }}\nno_auth_user: limited\n")
}

#[tokio::test]
async fn the_status_names_the_permission_that_is_missing() -> Result<()> {
    // One without which nothing works.
    let nats = Nats::start_with(&without("$JS.API.STREAM.INFO.SSE_sse")).await?;
    let gateway = Gateway::start_unready(&nats, "default/live", json!({}))?;
    let told = |text: &Value, subject: &str| {
        let text = text.as_str().unwrap_or_default().to_lowercase();
        let field = "nats.credentialssecretref: not set: permissions violation for publish to";
        text.contains(&format!("{field} \"{}\"", subject.to_lowercase()))
    };
    eventually("a last error with the permission", Duration::from_secs(20), || async {
        let status = gateway.status().await?;
        let error = &status["nats"]["lastError"];
        ensure!(told(error, "$JS.API.STREAM.INFO.SSE_sse"), "{status}");
        ensure!(status["nats"]["connected"] == false && status["ready"] == false, "{status}");
        Ok(())
    })
    .await?;
    // And one that only dead letters need.
    let nats = Nats::start_with(&without("sse-dead.>")).await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    ensure!(gateway.status().await?["warnings"] == json!([]), "a warning before");
    nats.publisher().await?.publish("sse.acme.nowhere", "").await?;
    eventually("a warning with the permission", Duration::from_secs(10), || async {
        let status = gateway.status().await?;
        let warning = &status["warnings"][0];
        ensure!(
            warning["reason"] == "NatsPermission" && told(&warning["message"], "sse-dead.acme"),
            "{status}"
        );
        ensure!(status["nats"]["connected"] == true && status["ready"] == true, "{status}");
        Ok(())
    })
    .await
}
