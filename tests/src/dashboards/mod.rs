//! The dashboards of the chart, as code: this makes charts/sse-gateway/files/dashboards, in the form that Grafana
//! imports. A test says that the files are what this makes; `make dashboards` writes them.

pub mod asked;
mod both;
mod gateway;
mod model;
mod operator;
mod overview;
pub mod read;
pub mod recorded;

use serde_json::Value;

/// Name of the file, and what it holds.
#[must_use]
pub fn all() -> [(&'static str, Value); 3] {
    [("overview", overview::board()), ("gateway", gateway::board()), ("operator", operator::board())]
}
