//! Many clients that lose their pod at once come back apart.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use sse_tests::browser::bundle;
use sse_tests::clients::run;
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

const CLIENTS: usize = 100;
/// The longest first delay of `fleet.mjs`, in milliseconds.
const DELAY: f64 = 2000.0;
/// What one turn of the loop of the program may take, with all clients in it, in milliseconds.
const TURN: f64 = 500.0;

#[derive(Deserialize)]
struct Change {
    client: usize,
    state: String,
    delay: f64,
    at: f64,
}

#[tokio::test]
async fn clients_that_lose_their_pod_together_come_back_apart() -> Result<()> {
    let (nats, dir) = (Nats::start().await?, TempDir::new()?);
    let mut gateway = Gateway::start(&nats, json!({})).await?;
    let base = format!("http://{}/api/v1/sse", gateway.address);
    let mut fleet = run("fleet.mjs", &dir, &[&base, &bundle().to_string_lossy()], "")?;
    let jwts: String = (0..CLIENTS).map(|client| jwt("acme", &format!("user-{client}")) + "\n").collect();
    fleet.stdin.take().context("a stdin")?.write_all(jwts.as_bytes()).await?;
    let mut lines = BufReader::new(fleet.stdout.take().context("a stdout")?).lines();
    eventually("all streams", Duration::from_mins(1), || async {
        let status = gateway.status().await?;
        ensure!(status["connections"] == CLIENTS, "{status}");
        Ok(())
    })
    .await?;
    gateway.kill().await?;
    let (mut lost, mut back) = (BTreeMap::new(), BTreeMap::new());
    while back.len() < CLIENTS {
        let line = timeout(Duration::from_secs(30), lines.next_line()).await??.context("a line")?;
        let Change { client, state, delay, at } = serde_json::from_str(&line).context(line)?;
        if state == "open" {
            lost.remove(&client);
            back.remove(&client);
        } else if state == "waiting" {
            lost.entry(client).or_insert((at, delay));
        } else if let Some((since, delay)) = lost.get(&client)
            && back.insert(client, *delay).is_none()
        {
            // A busy machine makes it later. Earlier only by a turn of the loop: timers count from its beginning.
            ensure!(at - since > delay - TURN, "{client} came back early: {delay} ms, from {since} to {at}");
        }
    }
    let mut delays: Vec<f64> = back.into_values().collect();
    delays.sort_by(f64::total_cmp);
    // Evenly over two seconds: a quarter of them in each quarter, give or take four standard deviations.
    for quarter in 0_u8..4 {
        let from = f64::from(quarter) * DELAY / 4.0;
        let count = delays.iter().filter(|delay| (from..from + DELAY / 4.0).contains(*delay)).count();
        ensure!((8..=42).contains(&count), "{count} in quarter {quarter}: {delays:?}");
    }
    Ok(())
}
