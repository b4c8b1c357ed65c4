//! Reading the log: what the live feed missed, and what a client missed that the ring no longer has.
//!
//! Clients are served by one scan of the whole log for all ([`scan`]), in pages that are read once
//! and kept for a while, bounded in bytes. A client asks for what comes after its own place and looks
//! its events up on the page, which has an index ([`page`]). How NATS is read, and what is believed of
//! its answers, is in [`read`]; a message that breaks the connection is read in [`stored`].

mod lost;
mod page;
mod read;
mod scan;
mod stored;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::nats::Link;
pub use page::Page;
use read::Reader;
use scan::{Asked, Key, Scan};

/// How long a client waits for its page before it looks after its stream again. It does not lose its
/// turn: turns go by place, not by time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the log could not be read. Worth another try.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("NATS did not answer in time")]
    TimedOut,
    #[error("there is no connection to NATS")]
    NotConnected,
    #[error("the log is another one now")]
    Remade,
    #[error("NATS refused the read: {0}")]
    Refused(String),
}

/// The log of one prefix.
pub struct Log {
    reader: Reader,
    scan: Mutex<Scan>,
    /// Something may be there to read.
    asked: Notify,
}

/// Takes a demand back when its client does not wait any more.
struct Waiting<'a> {
    log: &'a Log,
    key: Key,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.log.scan().withdraw(self.key);
    }
}

impl Log {
    #[must_use]
    pub fn new(name: String, prefix: &str) -> Self {
        let reader = Reader::new(name, prefix);
        Self { reader, scan: Mutex::default(), asked: Notify::new() }
    }

    fn scan(&self) -> MutexGuard<'_, Scan> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection to read through.
    pub fn attach(&self, link: Link) {
        self.reader.attach(link);
    }

    /// The page that holds `sequence`, in a log that has everything up to `head`. Shared by all that
    /// ask. It may end before `head`, and begin before `sequence`.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time, or the log became another one meanwhile.
    pub async fn block(&self, sequence: u64, head: u64) -> Result<Arc<Page>, LogError> {
        let (generation, asked) = {
            let mut scan = self.scan();
            (scan.generation(), scan.ask(sequence, head))
        };
        let (key, answer) = match asked {
            Asked::Page(page) => return Ok(page),
            Asked::Wait(key, answer) => (key, answer),
        };
        let _waiting = Waiting { log: self, key };
        self.asked.notify_one();
        let answer = timeout(PATIENCE, answer).await.map_err(|_| LogError::TimedOut)?;
        let page = answer.map_err(|_| LogError::Remade)??;
        if self.scan().generation() != generation {
            return Err(LogError::Remade);
        }
        Ok(page)
    }

    /// Reads for those who ask, until it is cancelled.
    pub async fn serve(&self, cancel: CancellationToken) {
        let mut reads = FuturesUnordered::new();
        let mut generation = 0;
        loop {
            {
                let mut scan = self.scan();
                if scan.generation() != generation {
                    generation = scan.generation();
                    reads.clear();
                }
                while let Some(read) = scan.next_read() {
                    reads.push(async move { (read, self.reader.read(read.from, read.upto).await) });
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.asked.notified() => {}
                Some((read, result)) = reads.next(), if !reads.is_empty() => self.scan().finish(read, result),
            }
        }
    }

    /// Forgets what was kept, and voids what is being read: the log is another one now.
    pub fn forget(&self) {
        self.scan().forget();
        self.reader.forget();
        self.asked.notify_one();
    }

    /// The log from `from` on, up to `upto` at most, past everybody else. `upto` must not be above the
    /// stream's last sequence. The page ends earlier when the events are large.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time.
    pub async fn read(&self, from: u64, upto: u64) -> Result<Page, LogError> {
        self.reader.read(from, upto).await
    }
}
