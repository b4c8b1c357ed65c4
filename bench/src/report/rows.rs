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
    row(
        "memory.http2",
        "Memory of an idle stream of HTTP/2, 100 on each connection",
        "KB",
        Target::AtMost(5.0),
    ),
    row("memory.kernel.1000", "Of the kernel for its buffers, both ends, at 1,000", "KB", Target::None),
    row("memory.kernel.5000", "Of the kernel for its buffers, both ends, at 5,000", "KB", Target::None),
    row("memory.kernel.15000", "Of the kernel for its buffers, both ends, at 15,000", "KB", Target::None),
    row("broadcast.cpu", "CPU of a broadcast delivery, 5,000 connections", "µs", Target::OfFloor(1.2)),
    row("broadcast.nats", "nats-server's for each such event", "µs", Target::None),
    row("broadcast.p50", "Published to read, 10 events/s to 5,000: p50", "ms", Target::None),
    row("broadcast.p99", "Published to read, 10 events/s to 5,000: p99", "ms", Target::OfFloor(1.2)),
    row("broadcast.p999", "Published to read, 10 events/s to 5,000: p999", "ms", Target::None),
    row("unicast.cpu", "CPU of a unicast delivery, 2,000/s", "µs", Target::AtMost(40.0)),
    row("unicast.nats", "nats-server's for each", "µs", Target::None),
    row("unicast.p50", "Published to read, 2,000/s: p50", "ms", Target::None),
    row("unicast.p99", "Published to read, 2,000/s: p99", "ms", Target::AtMost(5.0)),
    row("unicast.p999", "Published to read, 2,000/s: p999", "ms", Target::None),
    row("unicast.full.cpu", "CPU of a unicast delivery, at saturation", "µs", Target::AtMost(15.0)),
    row("unicast.full.nats", "nats-server's for each", "µs", Target::None),
    row("unicast.full.rate", "Events a second, each for one client", "/s", Target::None),
    row("saturation.rate", "Events a second, each for 5,000 clients", "/s", Target::None),
    row("saturation.cpu", "CPU of a delivery then", "µs", Target::None),
    row("nobody.cpu", "CPU of an event for nobody here", "µs", Target::AtMost(5.0)),
    row("nobody.nats", "nats-server's for each", "µs", Target::None),
    row("nobody.busy.cores", "Cores for 100,000 events/s, 1 in 100 for here", "", Target::AtMost(1.0)),
    row("nobody.busy.nats", "nats-server's cores then", "", Target::None),
    row("nobody.busy.rate", "Events a second that went through then", "/s", Target::None),
    row("handshakes.token", "Handshakes with a token, minted and redeemed", "/s", Target::AtLeast(5_000.0)),
    row("handshakes.token.cpu", "CPU of one", "µs", Target::None),
    row("handshakes.jwt", "Handshakes without: HS256; the peers' subscribe", "/s", Target::AtLeast(10_000.0)),
    row("handshakes.jwt.cpu", "CPU of one", "µs", Target::None),
    row("handshakes.rs256", "Handshakes without: RS256", "/s", Target::None),
    row("handshakes.rs256.cpu", "CPU of one", "µs", Target::None),
    row("storm.time", "10,000 come back, each to 50 of its own: all done", "s", Target::AtMost(5.0)),
    row("storm.cpu", "CPU of it", "s", Target::None),
    row("storm.nats", "nats-server's", "s", Target::None),
    row("storm.older.time", "The same, half of them older than the ring", "s", Target::AtMost(10.0)),
    row("storm.older.cpu", "CPU of it", "s", Target::None),
    row("storm.older.nats", "nats-server's", "s", Target::None),
    row("growth.1000", "CPU of a broadcast delivery, 4 events/s to 1,000", "µs", Target::None),
    row("growth.5000", "CPU of a broadcast delivery, 4 events/s to 5,000", "µs", Target::None),
    row("growth.15000", "CPU of a broadcast delivery, 4 events/s to 15,000", "µs", Target::None),
    row(
        "growth.two.connections",
        "Connections in two pods, nothing lost or doubled",
        "",
        Target::AtLeast(30_000.0),
    ),
    row("growth.two.memory", "Memory of each of them", "KB", Target::AtMost(3.0)),
    row("churn.minutes", "Streams that come and go beside 1,000 that stay: for", "min", Target::None),
    row("churn.streams", "So many of them", "", Target::None),
    row("churn.early", "Memory of the pod from the first sixth of the time to the third", "MB", Target::None),
    row("churn.late", "The same in the last sixth", "MB", Target::None),
    row("churn.growth", "Grown by", "%", Target::AtMost(5.0)),
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
