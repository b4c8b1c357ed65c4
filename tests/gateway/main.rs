//! The gateway as a process, against a real nats-server, over real sockets.

mod auth;
mod delivery;
mod drain;
mod outage;
mod replay;
mod stream;
mod token;
