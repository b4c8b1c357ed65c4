//! What a dashboard showed in a time, as answers to its queries, and a picture drawn of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::read::{Chosen, list, panels, text};
use crate::prometheus::Prometheus;

/// As many as a panel of a third of a screen has room for.
const POINTS: u64 = 240;

async fn range(
    prometheus: &Prometheus,
    expression: &str,
    (start, end, step): (u64, u64, u64),
) -> Result<Value> {
    let [start, end, step] = [start, end, step].map(|seconds| seconds.to_string());
    let query = [("query", expression), ("start", &start), ("end", &end), ("step", &step)];
    Ok(prometheus.api("query_range", &query).await.with_context(|| expression.to_owned())?["result"].clone())
}

/// Asks everything that Grafana would ask to show the last so many seconds.
///
/// # Errors
///
/// When a query is wrong.
pub async fn recorded(
    prometheus: &Prometheus,
    board: &Value,
    chosen: Chosen<'_>,
    last: Duration,
    empty: &[(&str, &str)],
) -> Result<Value> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let step = last.as_secs().div_ceil(POINTS).max(1);
    let times = (end - last.as_secs(), end, step);
    let mut answers = Map::new();
    for panel in panels(board) {
        let mut of = Map::new();
        for target in list(&panel["targets"]) {
            let answer = range(prometheus, &chosen.sent(text(&target["expr"])), times).await?;
            of.insert(text(&target["refId"]).to_owned(), answer);
        }
        answers.insert(panel["id"].to_string(), of.into());
    }
    let mut marks = Vec::new();
    for annotation in list(&board["annotations"]["list"]) {
        marks.push(range(prometheus, &chosen.sent(text(&annotation["target"]["expr"])), times).await?);
    }
    let empty: Vec<&str> = empty.iter().map(|(name, _)| *name).collect();
    Ok(json!({
        "board": board, "answers": answers, "marks": marks, "empty": empty,
        "chosen": {"namespace": chosen.namespace, "gateway": chosen.gateway},
        "from": times.0, "to": times.1, "step": times.2,
    }))
}

/// Draws it, panel by panel; returns how many there are. A panel without a value is an error, unless by design.
///
/// # Errors
///
/// With what the script says.
pub async fn drawn(recorded: &Value, picture: &Path) -> Result<usize> {
    let data = tempfile::NamedTempFile::new()?;
    std::fs::write(data.path(), recorded.to_string())?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("telemetry/draw.sh");
    let output = Command::new(script).arg(data.path()).arg(picture).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", picture.display());
    let count = String::from_utf8_lossy(&output.stdout);
    count.trim().parse().with_context(|| format!("{}: drew {count:?}", picture.display()))
}
