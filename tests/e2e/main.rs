//! End to end, on a real cluster: the chart, the operator, the gateway, NATS, clients.

#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

mod declare;
mod deliver;
mod survive;
