//! The rules of Grafana's dashboard linter, by the names that it gives them, as its documentation tells them. The
//! linter itself is on no registry of packages for these tests, so the rules are here; `PromQL` is read by
//! Prometheus. What is excluded stands in the linter's own file beside the dashboards, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::dashboards::read::{Chosen, list, panels, text};
use sse_tests::prometheus::Prometheus;

use super::{board, files};

/// No other range looks like this.
const RATE: (&str, u64) = ("97s", 97_000);
const CHOSEN: Chosen = Chosen { namespace: "n", gateway: "g", rate: RATE.0 };
/// Of Grafana's units, those that the dashboards need and that the linter knows.
const UNITS: [&str; 6] = ["short", "percentunit", "s", "ops", "reqps", "mps"];

/// What was found, by rule.
#[derive(Default)]
struct Found(BTreeMap<&'static str, Vec<String>>);

impl Found {
    fn unless(&mut self, well: bool, rule: &'static str, what: &str) {
        let all = self.0.entry(rule).or_default();
        if !well {
            all.push(what.to_owned());
        }
    }
}

fn dashboard(board: &Value, found: &mut Found) {
    let title = text(&board["title"]);
    found.unless(board["editable"] == false, "uneditable-dashboard-rule", title);
    let variables = list(&board["templating"]["list"]);
    let sources: Vec<&Value> = variables.iter().filter(|one| one["type"] == "datasource").collect();
    found.unless(!sources.is_empty(), "template-datasource-rule", title);
    for source in sources {
        let kind = text(&source["query"]);
        let capital = kind[..1].to_uppercase() + &kind[1..];
        let well = source["name"] == format!("{kind}_datasource")
            && source["label"] == format!("{capital} data source");
        found.unless(well, "template-datasource-rule", &format!("{title}: {}", source["name"]));
    }
    for (rule, name) in [("template-job-rule", "job"), ("template-instance-rule", "instance")] {
        let well = variables.iter().any(|one| {
            one["name"] == name && one["type"] == "query" && one["multi"] == true && one["allValue"] == ".+"
        });
        found.unless(well, rule, title);
    }
    for variable in variables.iter().filter(|one| one["type"] == "query") {
        let name = format!("{title}: {}", variable["name"]);
        found.unless(variable["refresh"] == 2, "template-on-time-change-reload-rule", &name);
    }
}

fn panel(board: &Value, panel: &Value, found: &mut Found) {
    let title = format!("{}: {}", text(&board["title"]), panel["title"]);
    let sources = list(&board["templating"]["list"]).iter().filter(|one| one["type"] == "datasource");
    let sources: BTreeSet<String> = sources.map(|one| format!("${{{}}}", text(&one["name"]))).collect();
    found.unless(sources.contains(text(&panel["datasource"]["uid"])), "panel-datasource-rule", &title);
    let told = !text(&panel["title"]).is_empty() && !text(&panel["description"]).is_empty();
    found.unless(told, "panel-title-description-rule", &title);
    let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
    found.unless(UNITS.contains(&unit), "panel-units-rule", &format!("{title}: {unit:?}"));
    found.unless(!list(&panel["targets"]).is_empty(), "panel-no-targets-rule", &title);
}

/// The nodes of an expression, each with the names of the functions and types around it, the closest last.
fn walk<'a>(node: &'a Value, around: &[&'a str], each: &mut impl FnMut(&'a Value, &[&'a str])) {
    let mut inside = around.to_vec();
    if let Some(kind) = node["type"].as_str() {
        each(node, around);
        inside.push(node["func"]["name"].as_str().unwrap_or(kind));
    }
    match node {
        Value::Array(nodes) => nodes.iter().for_each(|node| walk(node, &inside, each)),
        Value::Object(nodes) => nodes.values().for_each(|node| walk(node, &inside, each)),
        _ => {}
    }
}

fn target(name: &str, parsed: &Value, found: &mut Found) {
    walk(parsed, &[], &mut |node, around| {
        let inside = around.last().copied().unwrap_or_default();
        let ranged = node["type"] == "matrixSelector";
        if !ranged && node["type"] != "vectorSelector" {
            return;
        }
        let rate = ["rate", "irate"].contains(&inside);
        let well = !rate || node["range"] == RATE.1;
        found.unless(well, "target-rate-interval-rule", name);
        let counter = text(&node["name"]).ends_with("_total");
        let counted = ranged && (rate || inside == "increase");
        found.unless(!counter || counted, "target-counter-agg-rule", name);
        for (rule, label) in [("target-job-rule", "job"), ("target-instance-rule", "instance")] {
            let well = list(&node["matchers"]).iter().any(|one| one["name"] == label && one["type"] == "=~");
            found.unless(well, rule, name);
        }
    });
}

async fn lint(board: &Value, prometheus: &Prometheus, found: &mut Found) {
    dashboard(board, found);
    let title = text(&board["title"]);
    for variable in list(&board["templating"]["list"]).iter().filter(|one| one["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let arguments = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let series =
            arguments.and_then(|arguments| arguments.rsplit_once(", ")).map_or("", |(series, _)| series);
        let well = prometheus.parsed(&CHOSEN.sent(series)).await.is_ok();
        found.unless(well, "template-label-promql-rule", &format!("{title}: {query}"));
    }
    for one in panels(board) {
        panel(board, one, found);
        for each in list(&one["targets"]) {
            let name = format!("{title}: {}, {}", one["title"], each["refId"]);
            let parsed = prometheus.parsed(&CHOSEN.sent(text(&each["expr"]))).await;
            found.unless(parsed.is_ok(), "target-promql-rule", &name);
            if let Ok(parsed) = parsed {
                target(&name, &parsed, found);
            }
        }
    }
}

#[tokio::test]
async fn the_dashboards_follow_the_rules_of_grafanas_linter() -> Result<()> {
    let prometheus = Prometheus::start(&[], &files().join("alerts.yaml")).await?;
    let mut found = Found::default();
    for name in ["overview", "gateway", "operator"] {
        lint(&board(name)?, &prometheus, &mut found).await;
    }
    let excluded: Value = serde_json::from_str(&std::fs::read_to_string(files().join("dashboards/.lint"))?)?;
    let excluded = excluded["exclusions"].as_object().context("exclusions")?;
    ensure!(found.0.len() == 15, "15 rules, not {:?}", found.0.keys());
    for (rule, found) in &found.0 {
        let excluded = excluded.get(*rule).is_some_and(|one| text(&one["reason"]).len() > 20);
        ensure!(found.is_empty() || excluded, "{rule}: {found:#?}");
    }
    for rule in excluded.keys() {
        let needed = found.0.get(rule.as_str()).is_some_and(|found| !found.is_empty());
        ensure!(needed, "{rule} is excluded, and nothing breaks it");
    }
    Ok(())
}

#[tokio::test]
async fn the_linter_finds_what_breaks_a_rule() -> Result<()> {
    let prometheus = Prometheus::start(&[], &files().join("alerts.yaml")).await?;
    let good = board("overview")?;
    let find = good["panels"].as_array().and_then(|all| all.iter().position(|one| one["type"] != "row"));
    let first = format!("/panels/{}", find.context("a panel")?);
    for (rule, at, value) in [
        ("uneditable-dashboard-rule", "/editable".into(), json!(true)),
        ("template-datasource-rule", "/templating/list/0/name".into(), json!("datasource")),
        ("template-on-time-change-reload-rule", "/templating/list/2/refresh".into(), json!(1)),
        ("template-label-promql-rule", "/templating/list/2/query/query".into(), json!("label_values(a{, b)")),
        ("panel-datasource-rule", format!("{first}/datasource/uid"), json!("prometheus")),
        ("panel-title-description-rule", format!("{first}/description"), json!("")),
        ("panel-units-rule", format!("{first}/fieldConfig/defaults/unit"), json!("eggs")),
        ("panel-no-targets-rule", format!("{first}/targets"), json!([])),
        ("target-promql-rule", format!("{first}/targets/0/expr"), json!("sum(")),
        ("target-rate-interval-rule", format!("{first}/targets/0/expr"), json!("rate(a_total[5m])")),
        ("target-counter-agg-rule", format!("{first}/targets/0/expr"), json!("sum(a_total)")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(&at).with_context(|| at.clone())? = value;
        let (mut before, mut after) = (Found::default(), Found::default());
        lint(&good, &prometheus, &mut before).await;
        lint(&bad, &prometheus, &mut after).await;
        ensure!(after.0[rule].len() > before.0[rule].len(), "{rule} does not see {at}");
    }
    Ok(())
}
