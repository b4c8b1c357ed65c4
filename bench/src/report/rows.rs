//! The figures that are told, in their order, each with what it should be.

use crate::figures::Figures;
use crate::party::Name;

/// What a figure of the gateway should be.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times the floor's.
    OfFloor(f64),
    /// It is told beside the others.
    None,
}

/// A figure that is told.
pub struct Row {
    pub figure: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub target: Target,
}

const fn row(figure: &'static str, title: &'static str, unit: &'static str, target: Target) -> Row {
    Row { figure, title, unit, target }
}

/// All of them.
pub const ROWS: &[Row] = &[
    row("memory.1000", "Memory of an idle connection, at 1,000", "KB", Target::None),
    row("memory.5000", "Memory of an idle connection, at 5,000", "KB", Target::None),
    row("memory.15000", "Memory of an idle connection, at 15,000", "KB", Target::AtMost(3.0)),
    row("memory.used", "The same, after 10 events to each", "KB", Target::None),
    row("memory.kernel.1000", "Of the kernel for its buffers, both ends, at 1,000", "KB", Target::None),
    row("memory.kernel.5000", "Of the kernel for its buffers, both ends, at 5,000", "KB", Target::None),
    row("memory.kernel.15000", "Of the kernel for its buffers, both ends, at 15,000", "KB", Target::None),
    row("broadcast.cpu", "CPU of a broadcast delivery, 5,000 connections", "µs", Target::OfFloor(1.2)),
    row("broadcast.nats", "nats-server's for each such event", "µs", Target::None),
    row("broadcast.p50", "Published to read, 10 events/s to 5,000: p50", "ms", Target::None),
    row("broadcast.p99", "Published to read, 10 events/s to 5,000: p99", "ms", Target::OfFloor(1.2)),
    row("broadcast.p999", "Published to read, 10 events/s to 5,000: p999", "ms", Target::None),
];

impl Row {
    /// What is wanted, in words.
    #[must_use]
    pub fn wanted(&self) -> String {
        match self.target {
            Target::AtMost(value) => format!("≤ {value}"),
            Target::AtLeast(value) => format!("≥ {value}"),
            Target::OfFloor(ratio) => format!("≤ {ratio} floor"),
            Target::None => String::new(),
        }
    }

    /// Whether it was reached; `None` where nothing is wanted or nothing was measured.
    #[must_use]
    pub fn reached(&self, figures: &Figures) -> Option<bool> {
        let ours = figures.of(self.figure, Name::Ours)?.median;
        match self.target {
            Target::AtMost(value) => Some(ours <= value),
            Target::AtLeast(value) => Some(ours >= value),
            Target::OfFloor(ratio) => Some(ours <= ratio * figures.of(self.figure, Name::Floor)?.median),
            Target::None => None,
        }
    }
}
