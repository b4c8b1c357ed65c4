//! No command of the documentation is shown unseen: a test runs it as it stands, or `tests/unreachable.md` has the reason
//! why none does, and `make test` says so.

use std::path::Path;

use anyhow::{Result, ensure};
use sse_tests::pages::{Block, TOP, Told, blocks, pages};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(TOP).join(path)).unwrap_or_default()
}

/// What is wrong with how a block is told of.
fn wrong(block: &Block) -> Option<String> {
    let wrong = match &block.told {
        _ if block.language.is_empty() => {
            "it names no language, so nobody knows whether it is shell".to_owned()
        }
        Told::Nothing if !block.is_shell() => return None,
        Told::Nothing => "no comment before it names the test that runs it, or says why none does".to_owned(),
        _ if block.commands().is_empty() => "it has no command".to_owned(),
        Told::RunBy(file) if !read(file).contains("file!()") => format!("{file} runs no page"),
        Told::NotRun(row) if !read("tests/unreachable.md").contains(&format!("| {row} |")) => {
            format!("tests/unreachable.md has no row {row:?}")
        }
        Told::NotRun(row) if !read("tests/run.sh").contains(&format!("\"{row}\"")) => {
            format!("tests/run.sh does not say {row:?}")
        }
        _ => return None,
    };
    Some(format!("{}: {wrong}", block.place()))
}

/// What commands of these pages begin with.
const TYPED: [&str; 14] = [
    "$",
    "bash",
    "cargo",
    "curl",
    "docker",
    "gh",
    "git",
    "go",
    "helm",
    "kubectl",
    "make",
    "nats",
    "npm",
    "sse-gateway",
];

/// Comments that a reader of the page's source would take for one before a block, and commands that stand in no fence.
fn astray(page: &str, text: &str) -> Vec<String> {
    let said = text
        .lines()
        .filter(|line| ["<!-- run", "<!-- not run"].iter().any(|begin| line.trim().starts_with(begin)));
    let told = blocks(page, text).iter().filter(|block| block.told != Told::Nothing).count();
    let mut wrong = Vec::new();
    if said.count() != told {
        wrong.push(format!("{page}: a comment that is before no block"));
    }
    let outside: Vec<&str> = text.split("```").step_by(2).flat_map(str::lines).collect();
    let is_typed = |line: &&&str| {
        let typed = line.strip_prefix("    ").and_then(|typed| typed.split_once(' '));
        typed.is_some_and(|(command, _)| TYPED.contains(&command))
    };
    let typed = outside.iter().filter(is_typed);
    wrong.extend(typed.map(|line| format!("{page}: a command that stands in no fence: {}", line.trim())));
    wrong
}

#[test]
fn each_command_of_the_documentation_is_run_by_a_test_or_has_a_reason() -> Result<()> {
    let (mut commands, mut all) = (0, Vec::new());
    for (page, text) in pages()? {
        let blocks = blocks(&page, &text);
        commands += blocks.iter().filter(|block| block.is_shell()).count();
        all.extend(blocks.iter().filter_map(wrong));
        all.extend(astray(&page, &text));
    }
    ensure!(commands >= 40, "{commands} blocks of shell");
    ensure!(all.is_empty(), "{}", all.join("\n"));
    Ok(())
}

#[test]
fn a_command_that_nobody_runs_is_found() {
    let told = |text: &str| {
        let mut wrong: Vec<_> = blocks("page.md", text).iter().filter_map(wrong).collect();
        wrong.extend(astray("page.md", text));
        wrong.join("\n")
    };
    let fenced = |before: &str| told(&format!("{before}\n```sh\nls\n```\n"));
    assert_eq!(fenced("<!-- run by tests/gateway/commands.rs -->"), "");
    assert_eq!(fenced("<!-- not run: docker build -->"), "");
    assert!(fenced("text").starts_with("page.md:2: no comment before it"));
    assert!(fenced("<!-- run by tests/gateway/links.rs -->").contains("runs no page"));
    assert!(fenced("<!-- run by tests/gateway/nowhere.rs -->").contains("runs no page"));
    assert!(fenced("<!-- not run: too dull -->").contains("no row"));
    assert!(fenced("<!-- run by tests/gateway/commands.rs -->\n").contains("before no block"));
    assert!(told("```\nls\n```\n").contains("no language"));
    assert!(told("text\n\n    make test\n").contains("in no fence"));
    assert!(told("text\n\n    kubectl get pods\n").contains("in no fence"));
    assert_eq!(told("```yaml\na: 1\n```\n"), "");
}
