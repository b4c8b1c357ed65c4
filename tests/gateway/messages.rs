//! What gateway and operator log, by the macros in their source, is what docs/telemetry.md tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::metrics::quoted;

const LEVELS: [&str; 3] = ["info", "warn", "error"];
/// Macros of `tracing` by which a line could be written past this test.
const OTHERS: [&str; 2] = ["event", "log"];

/// Level and fields of each message.
type Catalogue = BTreeMap<String, (String, BTreeSet<String>)>;

/// What is in the tables of the section.
fn documented() -> Result<Catalogue> {
    let text = include_str!("../../docs/telemetry.md");
    let (_, section) = text.split_once("\n## Log lines\n").context("a section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut catalogue = Catalogue::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [message, level, fields, written, todo] = cells[..] else { anyhow::bail!("{row}") };
        ensure!(!written.is_empty() && !todo.is_empty(), "when, and what to do? {row}");
        let message = quoted(message).pop().with_context(|| row.to_owned())?;
        let entry = (level.to_owned(), quoted(fields).into_iter().collect());
        ensure!(catalogue.insert(message, entry).is_none(), "twice: {row}");
    }
    Ok(catalogue)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Finds the macros, at any depth: within other macros there is nothing but tokens.
fn walk(tokens: TokenStream, found: &mut Catalogue) -> Result<()> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            walk(group.stream(), found)?;
        }
        let TokenTree::Ident(name) = token else { continue };
        let name = name.to_string();
        let is_macro = matches!(tokens.get(at + 1), Some(TokenTree::Punct(mark)) if mark.as_char() == '!');
        let Some(TokenTree::Group(group)) = tokens.get(at + 2).filter(|_| is_macro) else { continue };
        ensure!(!OTHERS.contains(&name.as_str()), "{name}! {group}: not by info!, warn! or error!");
        if LEVELS.contains(&name.as_str()) {
            ensure!(group.delimiter() == Delimiter::Parenthesis, "{name}! {group}");
            let (message, fields) = line(group.stream()).with_context(|| format!("{name}! {group}"))?;
            let entry = found.entry(message.clone()).or_insert_with(|| (name.clone(), BTreeSet::new()));
            ensure!(entry.0 == name, "two levels: {message}");
            entry.1.extend(fields);
        }
    }
    Ok(())
}

/// Message and fields of one macro: fields first, then constant text.
fn line(tokens: TokenStream) -> Result<(String, Vec<String>)> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    let mut parts: Vec<&[TokenTree]> = tokens.split(is_comma).filter(|part| !part.is_empty()).collect();
    let Some([TokenTree::Literal(message)]) = parts.pop() else {
        anyhow::bail!("the message is no constant text at the end")
    };
    let message = message.to_string();
    let message = message
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .context("the message is no constant text")?;
    ensure!(message.ends_with('.'), "no sentence");
    ensure!(!message.contains(['{', '`', '|']), "what changes belongs into fields");
    let field = |part: &[TokenTree]| {
        let name =
            part.iter().take_while(|token| !matches!(token, TokenTree::Punct(mark) if mark.as_char() == '='));
        let name: String = name.map(ToString::to_string).collect();
        name.trim_start_matches(['%', '?']).to_owned()
    };
    Ok((message.to_owned(), parts.into_iter().map(field).collect()))
}

#[test]
fn every_line_of_the_log_is_documented_with_its_level_and_fields_and_every_documented_one_is_there()
-> Result<()> {
    let mut logged = Catalogue::new();
    for folder in ["gateway", "operator", "otlp"] {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src"), &mut files)?;
        ensure!(!files.is_empty(), "{folder} has no source");
        for file in files {
            let tokens = std::fs::read_to_string(&file)?.parse::<TokenStream>();
            let tokens = tokens.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            walk(tokens, &mut logged).with_context(|| file.display().to_string())?;
        }
    }
    let documented = documented()?;
    let missing: Vec<_> = logged.iter().filter(|(message, _)| !documented.contains_key(*message)).collect();
    let gone: Vec<_> = documented.keys().filter(|message| !logged.contains_key(*message)).collect();
    ensure!(
        missing.is_empty() && gone.is_empty(),
        "not documented: {missing:#?}\nnot in the source: {gone:#?}"
    );
    for (message, entry) in &documented {
        ensure!(&logged[message] == entry, "{message} {entry:?}, but in the source {:?}", logged[message]);
    }
    Ok(())
}
