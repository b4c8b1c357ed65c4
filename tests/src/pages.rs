//! The commands of the documentation. A comment before each block of shell names the test that runs it, or what
//! `tests/unreachable.md` says of it; the tests take the commands from the page, so that what is shown is what runs.
//!
//! ```md
//! <!-- run by tests/gateway/commands.rs -->
//! <!-- not run: docker build -->
//! ```

pub mod nats;
pub mod shell;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The folder of the whole project.
pub const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Folders with pages for users. Those at the top of the project count, too.
const FOLDERS: [&str; 4] = ["docs", "charts", "examples", "clients/js"];
/// Languages of what is typed into a terminal.
const SHELLS: [&str; 4] = ["sh", "bash", "console", "shell"];

/// What the comment before a block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The file of the test that runs it.
    RunBy(String),
    /// A row of `tests/unreachable.md`.
    NotRun(String),
    /// There is none.
    Nothing,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its page, from the top of the project.
    pub page: String,
    /// Where it begins.
    pub line: usize,
    pub language: String,
    pub text: String,
    pub told: Told,
}

impl Block {
    #[must_use]
    pub fn is_shell(&self) -> bool {
        SHELLS.contains(&self.language.as_str())
    }

    /// What is typed: of a console, what stands after the prompt.
    #[must_use]
    pub fn commands(&self) -> String {
        if self.language == "console" {
            let typed = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
            return typed.flat_map(|line| [line, "\n"]).collect();
        }
        self.text.clone()
    }

    /// Where it is, for a person.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// All pages below a folder.
///
/// # Errors
///
/// When it can not be read.
pub fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with("node_modules") {
            continue;
        }
        if path.is_dir() {
            below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// Every page for users, by its path from the top, with its text.
///
/// # Errors
///
/// When one can not be read.
pub fn pages() -> Result<Vec<(String, String)>> {
    let top = Path::new(TOP);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(top)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    for folder in FOLDERS {
        below(&top.join(folder), &mut found)?;
    }
    let named = |path: PathBuf| {
        let text = std::fs::read_to_string(&path)?;
        Ok((path.strip_prefix(top)?.display().to_string(), text))
    };
    found.into_iter().map(named).collect()
}

/// The fenced blocks of a page, in their order.
#[must_use]
pub fn blocks(page: &str, text: &str) -> Vec<Block> {
    let (mut all, mut told) = (Vec::new(), Told::Nothing);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let within = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let text = within.flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"]).collect();
            let (page, language) = (page.to_owned(), language.to_owned());
            let told = std::mem::replace(&mut told, Told::Nothing);
            all.push(Block { page, line: number + 1, language, text, told });
        } else {
            // It stands on the very line before.
            told = comment(line);
        }
    }
    all
}

fn comment(line: &str) -> Told {
    let within = line.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
    let run_by = within.and_then(|within| within.strip_prefix("run by "));
    let not_run = within.and_then(|within| within.strip_prefix("not run: "));
    match (run_by, not_run) {
        (Some(file), _) => Told::RunBy(file.to_owned()),
        (_, Some(row)) => Told::NotRun(row.to_owned()),
        _ => Told::Nothing,
    }
}

/// The blocks that a test is to run, all of them: it says `documented(file!())`.
///
/// # Errors
///
/// When there is none.
pub fn documented(file: &str) -> Result<Vec<Block>> {
    let all = pages()?.into_iter().flat_map(|(page, text)| blocks(&page, &text));
    let found: Vec<_> = all.filter(|block| block.told == Told::RunBy(file.to_owned())).collect();
    ensure!(!found.is_empty(), "no page has a command that is run by {file}");
    Ok(found)
}

/// The one block of those that has these words.
///
/// # Errors
///
/// When there is none, or another one.
pub fn with<'a>(blocks: &'a [Block], words: &str) -> Result<&'a Block> {
    let mut found = blocks.iter().filter(|block| block.text.contains(words));
    let block = found.next().with_context(|| format!("no block has {words:?}"))?;
    ensure!(found.next().is_none(), "more than one block has {words:?}");
    Ok(block)
}
