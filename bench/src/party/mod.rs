//! Who is measured: each a real server, started fresh, with what a client asks of it and how it takes events.

mod floor;
mod mercure;
mod nchan;
pub mod ours;
mod process;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sse_tests::collector::Sink;
use sse_tests::process::Nats;

pub use self::process::cache;
use crate::publisher::Language;

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    Ours,
    Floor,
    Nchan,
    Mercure,
}

/// What all of them stand on.
pub struct World {
    pub nats: Nats,
    /// Takes every span, so that tracing is on.
    pub sink: Sink,
    /// The gateway's binary.
    pub gateway: PathBuf,
}

/// What a client listens to. The gateway's clients listen to both.
#[derive(Clone, Copy, PartialEq)]
pub enum Audience {
    /// To what is for everybody.
    All,
    /// To what is for it alone.
    Own,
}

impl Audience {
    /// What a peer calls it.
    fn channel(self, user: u32) -> String {
        match self {
            Self::All => "all".into(),
            Self::Own => format!("u{user}"),
        }
    }
}

impl Name {
    pub const ALL: [Self; 4] = [Self::Ours, Self::Floor, Self::Nchan, Self::Mercure];

    /// Everybody that is there to be measured.
    #[must_use]
    pub fn installed() -> Vec<Self> {
        let here = |name: &Self| match name {
            Self::Ours | Self::Floor => true,
            Self::Nchan => nchan::Nchan::installed(),
            Self::Mercure => mercure::Mercure::installed(),
        };
        Self::value_variants().iter().copied().filter(here).collect()
    }
}

/// A running server. It ends when it is dropped.
pub trait Party: Send + Sync {
    fn address(&self) -> SocketAddr;
    /// Its processes, without those that it shares with others.
    fn processes(&self) -> Result<Vec<u32>>;
    /// The request of a client that opens a stream.
    fn request(&self, user: u32, audience: Audience) -> Vec<u8>;
    /// Where to publish, and how.
    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)>;
    /// What it says of itself when something went wrong.
    fn log(&self) -> String {
        String::new()
    }
}

impl World {
    /// Starts NATS, and has a gateway make the stream in it.
    ///
    /// # Errors
    ///
    /// When either does not start.
    pub async fn start(gateway: PathBuf) -> Result<Self> {
        let world = Self { nats: Nats::start().await?, sink: Sink::start().await?, gateway };
        drop(ours::Ours::start(&world, serde_json::json!({})).await?);
        Ok(world)
    }

    /// Starts a party, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn party(&self, name: Name) -> Result<Box<dyn Party>> {
        Ok(match name {
            Name::Ours => Box::new(ours::Ours::start(self, serde_json::json!({})).await?),
            Name::Floor => Box::new(floor::Floor::start(self).await?),
            Name::Nchan => Box::new(nchan::Nchan::start().await?),
            Name::Mercure => Box::new(mercure::Mercure::start().await?),
        })
    }
}
