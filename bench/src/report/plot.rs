//! The plot of docs/performance.md: for a few figures, a bar for each party.

use std::fmt::Write as _;

use super::rows::ROWS;
use super::table::number;
use crate::figures::Figures;
use crate::party::Name;

/// The figures that are drawn.
const DRAWN: [&str; 6] = [
    "memory.15000",
    "broadcast.cpu",
    "broadcast.p99",
    "unicast.full.cpu",
    "handshakes.jwt",
    "saturation.rate",
];
const COLOURS: [&str; 4] = ["#2563eb", "#9ca3af", "#16a34a", "#d97706"];
const WIDTH: u32 = 760;
const LEFT: u32 = 80;
const BAR: u32 = 18;
/// Of the longest bar.
const LONGEST: f64 = 560.0;

/// All of it, as SVG.
#[must_use]
pub fn svg(figures: &Figures) -> String {
    let (mut body, mut y) = (String::new(), 10);
    for row in DRAWN.iter().filter_map(|figure| ROWS.iter().find(|row| row.figure == *figure)) {
        let values = Name::ALL.map(|name| figures.of(row.figure, name).map(|summary| summary.median));
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        let _ = writeln!(
            body,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}, {}</text>",
            y + 14,
            row.title,
            row.unit
        );
        y += 22;
        for ((name, value), colour) in Name::ALL.iter().zip(values).zip(COLOURS) {
            let Some(value) = value else { continue };
            let length = (LONGEST * value / most).max(1.0);
            let label = format!("{name:?}").to_lowercase();
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6,
                y + 13
            );
            let _ = writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.0}\" height=\"{}\" fill=\"{colour}\"/>",
                BAR - 4
            );
            let end = f64::from(LEFT) + length + 6.0;
            let _ = writeln!(body, "<text x=\"{end:.0}\" y=\"{}\">{}</text>", y + 12, number(value));
            y += BAR;
        }
        y += 12;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_that_of_the_largest_value() {
        let mut figures = Figures::default();
        figures.add("broadcast.cpu", Name::Ours, 6.0);
        figures.add("broadcast.cpu", Name::Mercure, 12.0);
        figures.told("broadcast", Name::Ours, Ok(()));
        let svg = svg(&figures);
        assert!(svg.contains("width=\"560\"") && svg.contains("width=\"280\""), "{svg}");
        assert!(svg.contains("µs") && !svg.contains("nchan"), "{svg}");
    }

    #[test]
    fn every_figure_that_is_drawn_is_told() {
        for figure in DRAWN {
            assert!(ROWS.iter().any(|row| row.figure == figure), "{figure}");
        }
    }
}
