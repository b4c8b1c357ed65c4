//! What is counted, and that the tables of docs/telemetry.md tell of all of it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Has each of the lines.
fn has(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.exposition();
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line} not in:\n{text}");
    }
}

#[test]
fn reconciliations_are_counted_by_duration_and_errors_by_reason() {
    let metrics = Metrics::default();
    metrics.reconciled(Duration::from_millis(5));
    metrics.reconciled(Duration::from_millis(300));
    metrics.reconciled(Duration::from_mins(3));
    for (index, (why, _)) in Failing::ALL.into_iter().enumerate() {
        (0..=index).for_each(|_| metrics.failed(why));
    }
    let duration = "sse_operator_reconcile_duration_seconds";
    has(
        &metrics,
        &[
            &format!("{duration}_bucket{{le=\"0.005\"}} 1"),
            &format!("{duration}_bucket{{le=\"0.25\"}} 1"),
            &format!("{duration}_bucket{{le=\"0.5\"}} 2"),
            &format!("{duration}_bucket{{le=\"120.0\"}} 2"),
            &format!("{duration}_bucket{{le=\"+Inf\"}} 3"),
            &format!("{duration}_sum 180.305"),
            &format!("{duration}_count 3"),
        ],
    );
    for (index, (_, reason)) in Failing::ALL.into_iter().enumerate() {
        let count = index + 1;
        has(&metrics, &[&format!("sse_operator_reconcile_errors_total{{reason=\"{reason}\"}} {count}")]);
    }
}

#[test]
fn the_leader_tells_of_the_gateways_until_its_lease_is_over() {
    let tenure = Arc::new(Tenure::forever());
    let metrics = Metrics::new(tenure.clone());
    metrics.look_at(|| Fleet { ready: 3, unready: 2, rolling: 1, waiting: 4 });
    let told = |leader: u8, [ready, unready, rolling, waiting]: [u8; 4]| {
        has(
            &metrics,
            &[
                &format!("sse_operator_leader {leader}"),
                &format!("sse_operator_gateways{{ready=\"true\"}} {ready}"),
                &format!("sse_operator_gateways{{ready=\"false\"}} {unready}"),
                &format!("sse_operator_rollouts {rolling}"),
                &format!("sse_operator_rollouts_waiting {waiting}"),
            ],
        );
    };
    told(1, [3, 2, 1, 4]);
    tenure.end();
    told(0, [0; 4]);
}

/// The rows of the operator's table in the documentation that begins with this column.
pub fn table(column: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../../docs/telemetry.md");
    let (_, text) = text.split_once("\n## The operator\n").expect("a section");
    let head = format!("| {column} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

/// What stands in backticks.
pub fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Type of each metric, and its labels with their values, as emitted.
fn emitted() -> (BTreeMap<String, String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut types, mut labels) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for line in Metrics::default().exposition().lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            types.insert(format!("{name}{suffix}"), kind.to_owned());
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let (pairs, _) = rest.split_once('}').expect("labels");
            for pair in pairs.split(',').filter(|pair| !pair.starts_with("le=")) {
                labels.entry(name.to_owned()).or_default().insert(pair.replace('"', ""));
            }
        }
    }
    (types, labels)
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels_and_every_documented_one_is_there() {
    let (types, labels) = emitted();
    let rows = table("Metric | Type");
    let documented = rows.iter().map(|row| (quoted(&row[0]).remove(0), row[1].clone())).collect();
    assert_eq!(types, documented);
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table("Metric | Label") {
        let (name, label) = (quoted(&row[0]).remove(0), quoted(&row[1]).remove(0));
        values.insert(name, quoted(&row[2]).iter().map(|value| format!("{label}={value}")).collect());
    }
    let version = format!("version={}", env!("CARGO_PKG_VERSION"));
    values.insert("sse_operator_build_info".into(), [version].into());
    assert_eq!(labels, values);
    // The first table says who has labels, the second which.
    for row in rows {
        let name = quoted(&row[0]).remove(0);
        let has: BTreeSet<_> = labels.get(&name).into_iter().flatten().collect();
        let has: BTreeSet<_> =
            has.into_iter().filter_map(|pair| pair.split_once('=')).map(|(l, _)| l).collect();
        assert_eq!(quoted(&row[3]).iter().map(String::as_str).collect::<BTreeSet<_>>(), has, "{name}");
    }
}
