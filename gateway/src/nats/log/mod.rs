//! Reading the log: what the live feed missed, and what a client missed that the ring no longer has.
//!
//! Clients are served by one scan of the whole log for all ([`scan`]), in pages that are read once
//! and [`kept`] for a while, bounded in bytes; where a crowd comes at once, it is waited for ([`gather`]). A client's
//! [`search`] rides along from its own place: it looks its events up on each page, which has an index ([`page`]), until
//! there are enough for a write, and on while they are written. How NATS is read, and what is believed of
//! its answers, is in [`read`]; a message that breaks the connection is read in [`stored`].

mod gather;
mod kept;
mod lost;
mod page;
mod read;
mod scan;
mod search;
mod stored;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::nats::Link;
use gather::Gather;
pub use page::Page;
use read::Reader;
use scan::{Id, Scan};
use search::Search;
pub use search::{Found, Listens};

/// How long a client waits before it gets what was found, or looks after its stream again. Its search goes on.
const PATIENCE: Duration = Duration::from_secs(2);
/// Searches that are served before others get their turn.
const SERVED: usize = 128;

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
    /// Turns to ask for what a limit of messages took away.
    looks: Semaphore,
}

/// A client's hold on its search, which goes on while the client is at work on what it got, and ends with this.
pub struct Ride {
    log: Arc<Log>,
    id: Id,
}

impl Drop for Ride {
    fn drop(&mut self) {
        self.log.scan().withdraw(self.id);
    }
}

impl Log {
    #[must_use]
    pub fn new(name: String, prefix: &str) -> Self {
        let reader = Reader::new(name, prefix);
        let looks = Semaphore::new(lost::LOOKS);
        Self { reader, scan: Mutex::default(), asked: Notify::new(), looks }
    }

    fn scan(&self) -> MutexGuard<'_, Scan> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection to read through.
    pub fn attach(&self, link: Link) {
        self.reader.attach(link);
    }

    /// Some of a client's events after `after`, in a log that has everything up to `upto`: at least one, or
    /// the word that there is none up to some place. Goes on with `ride` where that one got so far, else with another.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time, or the log became another one meanwhile.
    pub async fn search(
        self: &Arc<Self>,
        ride: &mut Option<Ride>,
        listener: Arc<dyn Listens>,
        after: u64,
        upto: u64,
    ) -> Result<Found, LogError> {
        let (generation, id, mut answer) = {
            let mut scan = self.scan();
            let known = ride.as_ref().map(|ride| ride.id).filter(|id| scan.is(*id, &listener, after));
            let id = known.unwrap_or_else(|| scan.begin(Search::new(listener, after, upto)));
            (scan.generation(), id, scan.ask(id))
        };
        if ride.as_ref().is_none_or(|ride| ride.id != id) {
            *ride = Some(Ride { log: self.clone(), id });
        }
        if answer.is_empty() {
            self.asked.notify_one();
        }
        let answered = timeout(PATIENCE, &mut answer).await;
        let mut scan = self.scan();
        let found = match answered {
            Ok(found) => found.map_err(|_| LogError::Remade)??,
            // It may have come in this moment.
            Err(_) => match answer.try_recv() {
                Ok(found) => found?,
                Err(_) => scan.claim(id).ok_or(LogError::TimedOut)?,
            },
        };
        if scan.generation() != generation {
            return Err(LogError::Remade);
        }
        Ok(found)
    }

    /// Reads for those who search, until it is cancelled.
    pub async fn serve(&self, cancel: CancellationToken) {
        let mut reads = FuturesUnordered::new();
        let (mut generation, mut gather) = (0, Gather::new(Instant::now()));
        loop {
            let (more, wait) = {
                let mut scan = self.scan();
                if scan.generation() != generation {
                    generation = scan.generation();
                    reads.clear();
                }
                let more = scan.serve(SERVED);
                let wait = gather.wait(Instant::now(), scan.begun());
                if wait.is_none()
                    && let Some(read) = scan.next_read()
                {
                    reads.push(async move { (read, self.reader.read(read.from, read.upto).await) });
                }
                (more, wait)
            };
            let gathered = sleep_until(wait.unwrap_or_else(Instant::now));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.asked.notified() => {}
                Some((read, result)) = reads.next(), if !reads.is_empty() => self.scan().finish(read, result),
                () = yield_now(), if more => {}
                () = gathered, if wait.is_some() => {}
            }
        }
    }

    /// Forgets what was kept, and voids what is being read: the log is another one now.
    pub fn forget(&self) {
        self.scan().forget();
        self.reader.forget();
        self.asked.notify_one();
    }

    /// Sequence of the oldest message that the log keeps, or of the next one when it keeps none.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time.
    pub async fn first(&self) -> Result<u64, LogError> {
        self.reader.first().await
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
