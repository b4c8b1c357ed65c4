//! `make bench`: the gateway and its peers on the same work, in one run, on one machine.
//!
//! This binary starts the servers, is their clients and their publisher, and reads what they use from the kernel.
//! What it promises: each figure comes with a count. Where an event was lost, came twice, out of order or to
//! the wrong client, there is no figure, and the command fails.

#![expect(clippy::cast_precision_loss, reason = "figures are for people")]

mod event;
mod figures;
mod fleet;
mod floor;
mod machine;
mod measure;
mod party;
mod publisher;
mod report;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use figures::Figures;
use measure::{Bench, Measure};

#[derive(Parser)]
#[command(about = "Measures the gateway beside its peers")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What is measured; everything when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Who is measured; everybody that is installed when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    parties: Vec<party::Name>,
    /// The gateway's binary; the one beside this one when left out.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// How often the gateway and the floor are measured, in turn.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Small counts, of which only correctness is judged.
    #[arg(long)]
    short: bool,
    /// Minutes for which streams come and go.
    #[arg(long, default_value_t = 3)]
    churn: u64,
    /// Where the figures go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder of docs/performance.md, whose measured part is made anew.
    #[arg(long)]
    doc: Option<PathBuf>,
    /// Measures nothing, and tells what such a file says.
    #[arg(long)]
    from: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// The floor, as a server.
    Floor {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        nats: SocketAddr,
    },
    /// Clients in a process of their own: more than one process may have files.
    Clients {
        #[arg(long)]
        address: SocketAddr,
        #[arg(long)]
        count: u32,
        #[arg(long)]
        events: u32,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // A client is a socket here.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match arguments.command {
        Some(Command::Floor { listen, nats }) => floor::run(listen, nats),
        Some(Command::Clients { address, count, events }) => {
            runtime()?.block_on(measure::growth::clients(address, count, events))
        }
        None => runtime()?.block_on(compare(arguments)),
    }
}

async fn compare(arguments: Arguments) -> Result<()> {
    let figures = match &arguments.from {
        Some(file) => serde_json::from_str(&std::fs::read_to_string(file)?)?,
        None => measured(&arguments).await?,
    };
    if arguments.short {
        println!("Each event was counted at its client; the figures of so short a run would say nothing.");
    } else {
        report::table::print(&figures);
    }
    for peer in &figures.peers {
        println!("a peer failed: {peer}");
    }
    if let Some(file) = arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    if let Some(folder) = arguments.doc {
        report::doc::write(&folder, &figures)?;
    }
    ensure!(figures.failures.is_empty(), "not right:\n  {}", figures.failures.join("\n  "));
    Ok(())
}

async fn measured(arguments: &Arguments) -> Result<Figures> {
    let beside = || anyhow::Ok(std::env::current_exe()?.with_file_name("sse-gateway"));
    let gateway = arguments.gateway.clone().map_or_else(beside, Ok)?;
    let gateway = gateway.canonicalize().with_context(|| format!("{} is not built", gateway.display()))?;
    let mut figures = Figures::on(machine::Machine::here());
    let bench = Bench::start(gateway, arguments).await?;
    bench.run(&arguments.only, &mut figures).await;
    Ok(figures)
}
