//! The proof of the wire encoder: its bytes, what parsers that nobody here wrote make of them, and what
//! a frame costs.

#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

mod cost;
mod golden;
mod parsers;
mod script;
mod streams;
