//! The table on the terminal.

use clap::ValueEnum as _;

use super::rows::{ROWS, Row};
use crate::figures::{Figures, Summary};
use crate::party::Name;

/// Prints what was measured.
pub fn print(figures: &Figures) {
    let mut head = vec!["".to_owned(), "unit".into()];
    for name in Name::value_variants() {
        head.push(format!("{name:?}").to_lowercase());
    }
    head.extend(["ours/floor".into(), "wanted".into(), "reached".into()]);
    let rows = ROWS.iter().filter_map(|row| cells(row, figures));
    let table: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = table[0].len();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A row, when anything of it was measured.
fn cells(row: &Row, figures: &Figures) -> Option<Vec<String>> {
    let of = |name: Name| figures.of(row.figure, name);
    let names = Name::value_variants();
    names.iter().find_map(|name| of(*name))?;
    let mut cells = vec![row.title.to_owned(), row.unit.to_owned()];
    cells.extend(names.iter().map(|name| of(*name).map_or_else(String::new, summary)));
    let ratio = of(Name::Ours).zip(of(Name::Floor)).filter(|(_, floor)| floor.median > 0.0);
    cells.push(ratio.map_or_else(String::new, |(ours, floor)| format!("{:.2}", ours.median / floor.median)));
    cells.push(row.wanted());
    cells.push(row.reached(figures).map_or("", |reached| if reached { "yes" } else { "NO" }).to_owned());
    Some(cells)
}

/// Median, and the spread where there are several samples.
fn summary(of: Summary) -> String {
    match of.count {
        1 => number(of.median),
        _ => format!("{} ({}–{})", number(of.median), number(of.least), number(of.most)),
    }
}

/// As many digits as say something.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
