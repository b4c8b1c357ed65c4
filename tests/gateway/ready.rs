//! Who was ready once stays in the service, whatever goes away that goes away for every pod: a service without pods
//! gives a browser no answer that it comes back from.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};

/// A cluster that elects, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_cluster_without_a_majority_is_told_and_takes_no_pod_out_of_the_service() -> Result<()> {
    let mut servers = Nats::start_three().await?;
    let patch =
        json!({"nats": {"stream": {"replicas": 3}}, "auth": {"modes": ["Token", "Bearer", "Cookie"]}});
    let gateway = Gateway::start_at(&servers[2].url(), "tests/gateway", patch)?;
    gateway.ready().await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    servers[2].publisher().await?.publish("sse.acme.user.alice", "before").await?;
    ensure!(stream.event().await?.data == "before");

    servers[0].kill().await?;
    servers[1].kill().await?;
    // The connection lives, and nobody leads the stream.
    let trouble = async |problem: Value| {
        eventually("the trouble in /status", PATIENCE, || async {
            let status = gateway.status().await?;
            ensure!(
                status["nats"]["connected"] == false && status["nats"]["lastError"].is_string(),
                "{status}"
            );
            ensure!(status["problems"][0]["reason"] == problem && status["ready"] == true, "{status}");
            Ok(())
        })
        .await
        .with_context(|| gateway.log())?;
        let (ready, why) = gateway.get("/readyz").await?;
        ensure!(ready == 200, "{ready} {why}");
        let answer = client.ask_token().await?;
        ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
        let cookie = format!("access_token={}", jwt("acme", "alice"));
        let answer = client.request(Method::GET, "/api/v1/sse/stream", &[("cookie", &cookie)]).await?;
        ensure!(answer.status == 200 && answer.body.starts_with("retry: "), "{answer:?}");
        Ok(())
    };
    trouble(Value::Null).await?;
    // And connected anew it hears of the stream by errors, where a dead server would not answer at all.
    servers[2].kill().await?;
    servers[2].restart().await?;
    trouble("StreamError".into()).await?;

    servers[0].restart().await?;
    servers[1].restart().await?;
    eventually("handshakes again", PATIENCE, || async {
        ensure!(gateway.status().await?["problems"] == json!([]));
        client.token().await
    })
    .await?;
    servers[2].publisher().await?.insist("sse.acme.user.alice", "acme:after", "after").await?;
    ensure!(stream.event().await?.data == "after");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_somebody_deletes_is_told_and_what_it_held_serves_on() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    client.token().await?;
    gateway.delete_secret("jwt")?;
    eventually("the missing secret in /status", Duration::from_secs(10), || async {
        let status = gateway.status().await?;
        let missing = &status["missingSecrets"];
        ensure!(*missing == json!(["auth.issuers[0].keySecretRef: jwt/key"]), "{missing}");
        ensure!(status["ready"] == true, "{status}");
        Ok(())
    })
    .await?;
    ensure!(gateway.get("/readyz").await?.0 == 200);
    client.token().await?;
    // What comes in its place counts at once: a key is taken back by another, not by none.
    gateway.write_secret("jwt", "key", "another key, and none of the old one's length")?;
    eventually("the old key refused", Duration::from_secs(10), || async {
        let status = client.ask_token().await?.status;
        ensure!(status == 401, "{status}");
        Ok(())
    })
    .await?;
    eventually("nothing missing", Duration::from_secs(10), || async {
        let missing = gateway.status().await?["missingSecrets"].clone();
        ensure!(missing == json!([]), "{missing}");
        Ok(())
    })
    .await
}
