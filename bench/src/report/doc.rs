//! docs/performance.md: the measured part stands between two markers, and is made from docs/performance.json.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::plot;
use super::rows::ROWS;
use super::table::{HEAD, cells};
use crate::figures::Figures;

const BEGIN: &str = "<!-- measured: made by `make bench DOC=1` -->";
const END: &str = "<!-- end of what was measured -->";

/// Writes JSON, plot and text into the folder of the docs.
///
/// # Errors
///
/// When a file can not be read or written, or the markers are missing.
pub fn write(folder: &Path, figures: &Figures) -> Result<()> {
    std::fs::write(folder.join("performance.json"), serde_json::to_string_pretty(figures)? + "\n")?;
    std::fs::write(folder.join("performance.svg"), plot::svg(figures))?;
    let file = folder.join("performance.md");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("where the measured part begins")?;
    let (_, after) = rest.split_once(END).context("where the measured part ends")?;
    std::fs::write(file, format!("{before}{BEGIN}\n\n{}\n{END}{after}", measured(figures)))?;
    Ok(())
}

/// The table, the machine, and what went wrong.
fn measured(figures: &Figures) -> String {
    let machine = &figures.machine;
    let versions = machine.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let mut text = format!(
        "{} cores of an {}, Linux {}; {}; load of others before the run {}. Medians; in parentheses the least and the most.\n\n",
        machine.cores,
        machine.processor,
        machine.kernel,
        versions.collect::<Vec<_>>().join(", "),
        machine.load,
    );
    text += "![Memory, processor time and latency of the four](performance.svg)\n\n";
    let _ = writeln!(text, "| {} |", HEAD.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(HEAD.len()));
    for row in ROWS.iter().filter_map(|row| cells(row, figures)) {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    for (head, list) in [("Not right", &figures.failures), ("A peer failed", &figures.peers)] {
        for what in list {
            let _ = write!(text, "\n{head}: {}.\n", what.lines().next().unwrap_or_default());
        }
    }
    text
}
