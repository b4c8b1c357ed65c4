//! Many clients at once, over a time: cut anywhere, stalled, churned. Each test says what it saw;
//! they measure, so they run one at a time.

#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

mod blind;
mod cuts;
mod drain;
mod idle;
mod soak;
mod stall;
