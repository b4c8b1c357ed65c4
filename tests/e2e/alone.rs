//! Tests that stop or flood what the others use: the operator, NATS, the API server. `tests/run.sh` runs them after the others,
//! one by one, so that nobody waits for his turn among them.

mod apis;
mod dashboard;
mod killed;
mod operator;
mod owners;
pub mod rollout;
mod scraped;
mod traced;
mod upgrade;
