//! The dashboards of the chart are those that the code makes, and whole.

mod linted;
mod shown;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sse_tests::dashboards::asked::{board, files};
use sse_tests::dashboards::read::{list, queries, text};

#[test]
fn the_dashboards_in_the_chart_are_those_that_the_code_makes() {
    for (name, made) in sse_tests::dashboards::all() {
        let path = files().join(format!("dashboards/{name}.json"));
        let made = serde_json::to_string_pretty(&made).expect("JSON") + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &made).expect("a writable checkout");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == made, "{} is not what the code makes: run `make dashboards`", path.display());
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_none_covers_another() -> Result<()> {
    let mut uids = BTreeSet::new();
    for name in ["overview", "gateway", "operator"] {
        let board = board(name)?;
        assert!(board.get("id").is_none(), "{name}: the id is Grafana's to give");
        assert!(board["schemaVersion"].as_u64() >= Some(39), "{name}");
        let uid = text(&board["uid"]);
        assert!((1..=40).contains(&uid.len()) && uids.insert(uid.to_owned()), "{name}: uid {uid:?}");
        let variables: BTreeSet<&str> =
            list(&board["templating"]["list"]).iter().map(|one| text(&one["name"])).collect();
        let (mut ids, mut titles, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in list(&board["panels"]) {
            let title = format!("{name}: {}", text(&panel["title"]));
            assert!(ids.insert(panel["id"].as_u64().context("an id")?), "{title}: its id is another's");
            let at = |field: &str| panel["gridPos"][field].as_u64().context(title.clone());
            let (x, y, w, h) = (at("x")?, at("y")?, at("w")?, at("h")?);
            assert!(w > 0 && h > 0 && x + w <= 24, "{title}: outside");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{title}: covers another");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(titles.insert(title.clone()), "{title}: twice");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(text(&panel["description"]).len() > 10 && !text(&defaults["unit"]).is_empty(), "{title}");
            assert!(!list(&defaults["thresholds"]["steps"]).is_empty(), "{title}");
            assert!(!list(&panel["targets"]).is_empty(), "{title}");
        }
        for name in board.to_string().split("${").skip(1).filter_map(|rest| rest.split(['}', ':']).next()) {
            assert!(name.starts_with("__") || variables.contains(name), "no variable {name}");
        }
        for (title, expression) in queries(&board) {
            for name in expression.split('$').skip(1).filter_map(|rest| rest.split(['"', ']']).next()) {
                assert!(name.starts_with("__") || variables.contains(name), "{title}: no variable {name}");
            }
        }
    }
    Ok(())
}
