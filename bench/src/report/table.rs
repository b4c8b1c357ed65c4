//! The table: on the terminal, and in docs/performance.md.

use super::rows::{ROWS, Row};
use crate::figures::{Figures, Summary};
use crate::party::Name;

/// Of the columns.
pub const HEAD: [&str; 10] =
    ["", "unit", "ours", "floor", "nchan", "Mercure", "ours / floor", "ours / nchan", "wanted", "reached"];

/// Prints what was measured.
pub fn print(figures: &Figures) {
    let head = HEAD.map(str::to_owned).to_vec();
    let rows = ROWS.iter().filter_map(|row| cells(row, figures));
    let table: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A row, when anything of it was measured.
#[must_use]
pub fn cells(row: &Row, figures: &Figures) -> Option<Vec<String>> {
    let of = |name: Name| figures.of(row.figure, name);
    Name::ALL.iter().find_map(|name| of(*name))?;
    let mut cells = vec![row.title.to_owned(), row.unit.to_owned()];
    cells.extend(Name::ALL.iter().map(|name| of(*name).map_or_else(String::new, summary)));
    for other in [Name::Floor, Name::Nchan] {
        let pair = of(Name::Ours).zip(of(other)).filter(|(_, other)| other.median > 0.0);
        cells.push(
            pair.map_or_else(String::new, |(ours, other)| format!("{:.2}", ours.median / other.median)),
        );
    }
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
