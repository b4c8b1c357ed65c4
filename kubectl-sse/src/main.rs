//! `kubectl sse`: what a person wants to know of gateways, and do with them, from a shell.
//!
//! One file for each command: [`status`], [`tail`], [`publish`], [`drain`], [`doctor`]. They see gateways and their
//! pods through [`cluster`], speak HTTP through a [`door`], which is a port-forward or a public URL, read streams by
//! [`frames`], take JWTs from [`credential`], read what is given to them by [`input`], and print through [`say`].
//!
//! Every wait has a deadline. A JWT is never printed. Nothing is changed but by `publish` and `drain`, and nothing
//! mints credentials.

mod arguments;
mod cluster;
mod credential;
mod doctor;
mod door;
mod drain;
mod frames;
mod input;
mod publish;
mod report;
mod say;
mod session;
mod status;
mod tail;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::cluster::Cluster;

/// What went wrong before there was an answer; `1` is an answer that is bad.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(&format!("error: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    match arguments.command {
        Command::Status(status) => status::run(&cluster, &status).await,
        Command::Tail(tail) => tail::run(&cluster, &tail).await,
        Command::Publish(publish) => publish::run(&cluster, &publish).await,
        Command::Drain(drain) => drain::run(&cluster, &drain).await,
        Command::Doctor(doctor) => doctor::run(&cluster, &doctor).await,
    }
}

/// Whoever read our output has seen enough: `kubectl sse tail live | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
