//! The data plane: a pod that authenticates browsers and streams to each of them the events that
//! services publish to NATS for its tenant and user.
//!
//! The way of an event: [`nats::feed`] receives it and checks that its sequence is the next (a gap:
//! [`nats::log`] fills it first, later ones wait) → [`hub`] puts it into the ring and finds who
//! listens → [`event`] understands or refuses it, [`wire`] makes one frame for all → each
//! [`connection::outbox`] writes it, if its stream has nothing else to do, or keeps a reference for the
//! stream's task → [`connection::line`] → the socket.
//!
//! The way of a connection: [`http::listener`] → route → [`auth`] or [`token`] →
//! [`connection::limits`] → head and `:connected` → registered in the [`hub`] at a known sequence →
//! replay from [`history`], log or ring up to it → live → (slow: catch up, which is replay again) → the client's
//! leave, a deadline, [`drain`](connection::End::Drain) or [`rebalance`]: released once.
//!
//! What happens to either is counted and traced by [`telemetry`].
//!
//! [`round_trip`] serves nobody: `helm test` runs it.
//!
//! Dependencies point one way: HTTP knows the hub, the hub knows no HTTP.

pub mod admin;
pub mod auth;
pub mod check;
pub mod config;
pub mod connection;
pub mod control;
pub mod cursor;
pub mod event;
pub mod history;
pub mod http;
pub mod hub;
pub mod logs;
pub mod nats;
pub mod postings;
pub mod rebalance;
pub mod room;
pub mod round_trip;
pub mod secret;
mod seldom;
pub mod subject;
pub mod telemetry;
pub mod token;
pub mod wire;
