//! Very many clients in one thread: they open streams, read them, and check that each gets all that is
//! for it, once and in order. The checks are made as the bytes come; what is kept is a few counters.

mod thread;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use mio::Waker;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How often the counters are looked at.
const POLL: Duration = Duration::from_millis(5);
/// Handshakes that are under way at one time.
pub const AT_ONCE: usize = 64;

/// Streams to open.
pub struct Plan {
    pub address: SocketAddr,
    /// The request of each client, and the number that events for it alone carry.
    pub requests: Vec<(u32, Vec<u8>)>,
    pub at_once: usize,
    /// Whether the request is for a token, with which the stream is then asked for.
    pub mint: bool,
    /// The number of the next event for everybody.
    pub next_all: u32,
}

/// What the thread tells while it works.
#[derive(Default)]
pub struct Counters {
    pub opened: AtomicU64,
    /// Streams that were refused, or that ended.
    pub ended: AtomicU64,
    pub received: AtomicU64,
    /// Events that were skipped.
    pub lost: AtomicU64,
    /// Events that came again, or too late.
    pub repeated: AtomicU64,
    /// Events of somebody else.
    pub strangers: AtomicU64,
    /// The first thing that went wrong with a stream.
    pub trouble: Mutex<String>,
}

enum Command {
    Open(Plan),
    /// The time from publish to read of everything since the last one, in microseconds.
    Delays(oneshot::Sender<Vec<u32>>),
    /// How many clients stand elsewhere than after so many events for everybody and of their own.
    Behind(u32, u32, oneshot::Sender<usize>),
    Stop,
}

/// The clients. They leave when it is dropped.
pub struct Fleet {
    counters: Arc<Counters>,
    commands: mpsc::Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    planned: u64,
}

impl Fleet {
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn start() -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let (commands, orders) = mpsc::channel();
        let (thread, waker) = thread::start(counters.clone(), orders)?;
        Ok(Self { counters, commands, waker, thread: Some(thread), planned: 0 })
    }

    fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| anyhow!("the clients' thread has ended"))?;
        Ok(self.waker.wake()?)
    }

    /// Opens streams, beside those that are open; how long it took.
    ///
    /// # Errors
    ///
    /// When one is refused, or they are not open in time.
    pub async fn open(&mut self, plan: Plan) -> Result<Duration> {
        let begun = Instant::now();
        self.planned += plan.requests.len() as u64;
        self.command(Command::Open(plan))?;
        let planned = self.planned;
        self.until("open streams", Duration::from_mins(2), |counters| {
            counters.opened.load(Ordering::Relaxed) >= planned
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Waits until so many events have come, of all clients together.
    ///
    /// # Errors
    ///
    /// When they do not come in time, or something ends.
    pub async fn received(&self, count: u64, within: Duration) -> Result<()> {
        self.until("all events", within, |counters| counters.received.load(Ordering::Relaxed) >= count).await
    }

    /// What has come so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counters.received.load(Ordering::Relaxed)
    }

    async fn until(&self, what: &str, within: Duration, done: impl Fn(&Counters) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        while !done(&self.counters) {
            let (opened, ended) = (&self.counters.opened, &self.counters.ended);
            let trouble = || self.counters.trouble.lock().map(|text| text.clone()).unwrap_or_default();
            ensure!(ended.load(Ordering::Relaxed) == 0, "{what}: a stream ended: {}", trouble());
            ensure!(
                Instant::now() < deadline,
                "{what}: not within {within:?}: {} of {} streams, {} events",
                opened.load(Ordering::Relaxed),
                self.planned,
                self.count(),
            );
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Microseconds from publish to read, of everything since this was last asked.
    ///
    /// # Errors
    ///
    /// When the thread has ended.
    pub async fn delays(&self) -> Result<Vec<u32>> {
        let (reply, delays) = oneshot::channel();
        self.command(Command::Delays(reply))?;
        delays.await.context("the clients' thread has ended")
    }

    /// Fails when anything was lost, came twice, out of order or to the wrong one, or when a client does not
    /// stand after exactly so many events for everybody and of its own.
    ///
    /// # Errors
    ///
    /// With the counts.
    pub async fn complete(&self, all: u32, own: u32) -> Result<()> {
        let (reply, behind) = oneshot::channel();
        self.command(Command::Behind(all, own, reply))?;
        let behind = behind.await.context("the clients' thread has ended")?;
        let [lost, repeated, strangers, ended] = self.wrong();
        ensure!(
            behind as u64 + lost + repeated + strangers + ended == 0,
            "{lost} events lost, {repeated} twice or out of order, {strangers} of somebody else; {ended} streams ended, \
             {behind} clients do not stand at the end"
        );
        Ok(())
    }

    fn wrong(&self) -> [u64; 4] {
        let counters = &self.counters;
        [&counters.lost, &counters.repeated, &counters.strangers, &counters.ended]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let stopped = self.command(Command::Stop);
        if let Some(thread) = self.thread.take()
            && stopped.is_ok()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::event::{ALL, Stamp, now};

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n:connected\n\n";

    /// One client of a server that answers its first request so, and sends these events.
    async fn told(head: &'static [u8], events: &'static [(u32, u32)]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept()?;
            let count = socket.read(&mut [0; 100])?;
            let mut bytes = head.to_vec();
            for (to, number) in events {
                Stamp { to: *to, number: *number, at: now() }.append(&mut bytes);
            }
            // In two parts, cut within a stamp.
            let (first, rest) = bytes.split_at(bytes.len().min(head.len() + 10));
            socket.write_all(first)?;
            std::thread::sleep(Duration::from_millis(10));
            socket.write_all(rest)?;
            // Until the client leaves.
            let _ = socket.read(&mut [0; 100]);
            Ok::<_, std::io::Error>(count)
        });
        let mut fleet = Fleet::start()?;
        let requests = vec![(7, b"GET".to_vec())];
        let result = async {
            fleet.open(Plan { address, requests, at_once: 2, mint: false, next_all: 0 }).await?;
            fleet
                .received(
                    events.iter().filter(|(to, _)| [7, ALL].contains(to)).count() as u64,
                    Duration::from_secs(5),
                )
                .await?;
            // A stranger's event may be the last one.
            sleep(Duration::from_millis(50)).await;
            fleet.complete(2, 1).await
        };
        let result = result.await;
        drop(fleet);
        assert_eq!(server.join().map_err(|_| anyhow!("the server"))??, 3);
        result
    }

    #[tokio::test]
    async fn a_client_that_got_everything_once_and_in_order_is_complete() {
        told(HEAD, &[(ALL, 0), (7, 0), (ALL, 1)]).await.expect("complete");
    }

    #[tokio::test]
    async fn what_is_lost_doubled_disordered_or_of_somebody_else_fails() {
        for events in [
            &[(ALL, 0), (7, 0)][..],
            &[(ALL, 1), (7, 0)],
            &[(ALL, 0), (7, 0), (ALL, 1), (ALL, 1)],
            &[(ALL, 1), (ALL, 0), (7, 0)],
            &[(ALL, 0), (7, 0), (ALL, 1), (8, 0)],
        ] {
            told(HEAD, events).await.expect_err("not complete");
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_refused_is_told() {
        let error = told(b"HTTP/1.1 503 Busy\r\n\r\n", &[]).await.expect_err("refused");
        assert!(format!("{error:#}").contains("503 Busy"), "{error:#}");
    }
}
