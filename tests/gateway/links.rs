//! The links of the documentation: each leads to a file that is there, and to a heading within it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sse_tests::pages::{TOP, below};

/// Folders with pages of ours, and pages at the top.
const FOLDERS: [&str; 4] = ["docs", "charts/sse-gateway", "clients/js", "examples"];

/// What stands outside of blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// Where its links lead to.
fn links(page: &str) -> Vec<String> {
    // What is code within a line is none either.
    let prose: String = prose(page).lines().flat_map(|line| line.split('`').step_by(2)).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

/// The names of its headings, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(name).collect()
}

/// What is wrong with a link of this page.
fn wrong(page: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { page.to_owned() } else { page.parent()?.join(path) };
    let leads = target.exists()
        && (anchor.is_empty()
            || anchors(&std::fs::read_to_string(&target).unwrap_or_default()).contains(anchor));
    (!leads).then(|| format!("{}: {link}", page.display()))
}

#[test]
fn each_link_in_the_documentation_leads_somewhere() -> Result<()> {
    let top = Path::new(TOP);
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut all: Vec<PathBuf> = names.iter().map(|name| top.join(name)).collect();
    for folder in FOLDERS {
        below(&top.join(folder), &mut all)?;
    }
    let (mut seen, mut astray) = (0, Vec::new());
    for page in all {
        let links = links(&std::fs::read_to_string(&page)?);
        seen += links.len();
        astray.extend(links.iter().filter_map(|link| wrong(&page, link)));
    }
    ensure!(seen > 100, "{seen} links");
    ensure!(astray.is_empty(), "{}", astray.join("\n"));
    Ok(())
}

#[test]
fn a_link_and_a_heading_are_found_as_a_forge_does() {
    let page = "# One `two`, three\n\n[a](b.md#c), `[no](link)` and [d](https://e) but\n\n```sh\n# no heading [f](g)\n```\n";
    assert_eq!(links(page), ["b.md#c"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["one-two-three"]);
}
