//! What is told: a table for the terminal, and docs/performance.md.

pub mod doc;
mod plot;
pub mod rows;
pub mod table;
