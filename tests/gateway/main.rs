//! The gateway as a process, against a real nats-server, over real sockets.

#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

mod auth;
mod behind;
mod browser;
mod clients;
mod console;
mod contracts;
mod control;
mod cookie;
mod cors;
mod dashboards;
mod dead;
mod delivery;
mod drain;
mod edge;
mod examples;
mod floods;
mod h2spec;
mod history;
mod isolation;
mod jwks;
mod leaf;
mod limits;
mod live;
mod log;
mod memory;
mod messages;
mod metrics;
mod outage;
mod ownership;
mod permissions;
mod progress;
mod proxies;
mod publish;
mod rebalance;
mod replay;
mod security;
mod slow;
mod stream;
mod telemetry;
mod tls;
mod token;
mod topics;
mod traces;
mod vanished;
