//! Everything that the dashboards and the alerts of the chart ask, asked of a Prometheus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::read::{Chosen, list, panels, queries, text};
use crate::eventually;
use crate::prometheus::Prometheus;

/// Dashboards and alerts, as the chart has them.
#[must_use]
pub fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sse-gateway/files")
}

/// A dashboard of the chart.
///
/// # Errors
///
/// When there is none of this name.
pub fn board(name: &str) -> Result<Value> {
    let path = files().join(format!("dashboards/{name}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// A panel, the label of one of its series if it has several, and what it shows.
pub type Expected<'a> = (&'a str, Option<(&'a str, &'a str)>, f64);

/// The one value that a panel's first query shows now, or that of the series with this label. Rates are told as
/// counts of the time that they look back.
///
/// # Errors
///
/// When there is none, or more than one.
pub async fn value(
    prometheus: &Prometheus,
    boards: &[Value],
    (panel, label): (&str, Option<(&str, &str)>),
    chosen: Chosen<'_>,
) -> Result<f64> {
    let panel = boards.iter().flat_map(panels).find(|one| text(&one["title"]) == panel);
    let expression = chosen.sent(text(&panel.context("no such panel")?["targets"][0]["expr"]));
    let series = prometheus.now(&expression).await?;
    let mut of = series.iter().filter(|(labels, _)| label.is_none_or(|(name, value)| labels[name] == value));
    let (_, value) = of.next().with_context(|| format!("no such series in {series:?}"))?;
    ensure!(of.next().is_none(), "more than one series: {series:?}");
    let counts =
        expression.contains("rate(") && !expression.contains("/ sum") && !expression.contains("quantile");
    let seconds: f64 = chosen.rate.trim_end_matches('s').parse()?;
    Ok(if counts { value * seconds } else { *value })
}

/// Panels against what is known to be true; returns what was asked and is there.
///
/// # Errors
///
/// With the first panel that shows something else.
pub async fn numbers(
    prometheus: &Prometheus,
    boards: &[Value],
    chosen: Chosen<'_>,
    expected: &[Expected<'_>],
) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for &(panel, label, expected) in expected {
        let there = value(prometheus, boards, (panel, label), chosen).await;
        let there = there.with_context(|| format!("{panel} {label:?}"))?;
        // Ten scrapes and more: a rate is stretched over less than the eleventh.
        let near = expected * 0.9..=expected * 1.12;
        ensure!(near.contains(&there), "{panel} {label:?}: {there}, not {expected}");
        told.push(format!("{panel} {}: {there:.3} ({expected})", label.map_or("", |(_, value)| value)));
    }
    Ok(told)
}

/// Every query of a dashboard had an answer in these last seconds, but those that are told to be empty by design.
/// Returns how many were asked.
///
/// # Errors
///
/// With those that are wrong.
pub async fn all_shown(
    prometheus: &Prometheus,
    board: &Value,
    chosen: Chosen<'_>,
    last: Duration,
    empty: &[(&str, &str)],
) -> Result<usize> {
    let (mut wrong, queries) = (Vec::new(), queries(board));
    for (title, expression) in &queries {
        let shown = prometheus.shown(&chosen.sent(expression), last).await;
        let by_design = empty.iter().any(|(name, _)| title == name);
        if !matches!((&shown, by_design), (Ok(1..), false) | (Ok(0), true)) {
            wrong.push(format!("{title}: {shown:?} series, of {expression}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), queries.len(), wrong.join("\n"));
    Ok(queries.len())
}

/// Every alert is evaluated, and each series that it asks for is there. Which fire when is tested by promtool.
/// Returns how many alerts there are.
///
/// # Errors
///
/// With one that asks for what there is not.
pub async fn alerts(prometheus: &Prometheus) -> Result<usize> {
    let rules = eventually("every rule evaluated", Duration::from_secs(10), || async {
        let groups = prometheus.api("rules", &[]).await?;
        let rules: Vec<Value> =
            list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect();
        let unwell: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        ensure!(unwell.is_empty() && rules.len() >= 10, "{unwell:?} of {}", rules.len());
        Ok(rules)
    })
    .await?;
    for rule in &rules {
        for selector in prometheus.selectors(text(&rule["query"])).await? {
            let there = prometheus.shown(&selector, Duration::from_secs(10)).await?;
            ensure!(there > 0, "{}: there is no {selector}", rule["name"]);
        }
    }
    Ok(rules.len())
}
