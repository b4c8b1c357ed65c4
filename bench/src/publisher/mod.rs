//! Publishes on a thread: at a fixed rate, or as fast as a window of unacknowledged events allows.
//! The time in an event is that at which it was given to the kernel.

pub mod nats;
pub mod post;

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::event::{Stamp, now};

/// Without an acknowledgement for this long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// Events that are not acknowledged at most, at a fixed rate: a stream refuses more than it can hold.
const PENDING: u64 = 4096;
/// Bytes that are given to the kernel at once, at saturation.
const BATCH: usize = 32 * 1024;

/// How a party takes events.
pub trait Language: Send + Sync + 'static {
    /// Says hello on a fresh connection.
    ///
    /// # Errors
    ///
    /// When it is not answered as it should be.
    fn greet(&self, reader: &mut dyn BufRead, writer: &mut TcpStream) -> Result<()>;
    /// Appends one event.
    fn append(&self, stamp: Stamp, buffer: &mut Vec<u8>);
    /// What a line from the server says.
    fn line(&self, line: &[u8]) -> Answer;
}

/// What a line from the server says.
pub enum Answer {
    /// An event was taken.
    Taken,
    /// Something else that is no trouble.
    Other,
    /// It wants to hear this.
    Say(&'static [u8]),
    Trouble,
}

/// When to publish.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many events a second; fewer when the server does not take them.
    Rate(f64),
    /// With at most so many that are not acknowledged.
    Window(u64),
}

#[derive(Default)]
struct Progress {
    taken: u64,
    trouble: Option<String>,
}

/// A connection that publishes. Its threads end with the connection.
pub struct Publisher {
    language: Arc<dyn Language>,
    writer: Arc<Mutex<TcpStream>>,
    progress: Arc<(Mutex<Progress>, Condvar)>,
    sent: u64,
}

impl Publisher {
    /// # Errors
    ///
    /// When the server can not be reached.
    pub fn connect(address: SocketAddr, language: Arc<dyn Language>) -> Result<Self> {
        let mut writer = TcpStream::connect(address).context("the publisher")?;
        writer.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(BATCH, writer.try_clone()?);
        language.greet(&mut reader, &mut writer)?;
        let writer = Arc::new(Mutex::new(writer));
        let progress = Arc::<(Mutex<Progress>, Condvar)>::default();
        let (answers, own, language_) = (progress.clone(), writer.clone(), language.clone());
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            let error = listen(&mut reader, &*language_, &own, &answers).err();
            if let Ok(mut progress) = answers.0.lock() {
                progress.trouble = Some(error.map_or_else(|| "ended".into(), |error| format!("{error:#}")));
            }
            answers.1.notify_all();
        })?;
        Ok(Self { language, writer, progress, sent: 0 })
    }

    /// Publishes so many events, of which `event` says recipient and number, and waits until all are
    /// acknowledged; how long it took.
    ///
    /// # Errors
    ///
    /// When one is not taken.
    pub fn publish(
        &mut self,
        pace: Pace,
        count: u64,
        mut event: impl FnMut(u64) -> (u32, u32),
    ) -> Result<Duration> {
        let (begun, mut buffer, mut done) = (Instant::now(), Vec::with_capacity(BATCH * 2), 0);
        while done < count {
            let room = match pace {
                Pace::Rate(rate) => {
                    let next = begun + Duration::from_secs_f64(done as f64 / rate);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    let ahead = begun.elapsed().as_secs_f64() * rate;
                    // The event that was waited for, and those that came due while it was not looked.
                    let due = (1..count - done).take_while(|more| ((done + more) as f64) < ahead).count()
                        as u64
                        + 1;
                    due.min(PENDING - self.wait(PENDING - 1)?)
                }
                Pace::Window(window) => window - self.wait(window - 1)?,
            };
            for _ in 0..room.min(count - done) {
                let (to, number) = event(done);
                self.language.append(Stamp { to, number, at: now() }, &mut buffer);
                done += 1;
                self.sent += 1;
                if buffer.len() >= BATCH {
                    break;
                }
            }
            self.writer.lock().ok().context("a thread panicked")?.write_all(&buffer)?;
            buffer.clear();
        }
        self.wait(0)?;
        Ok(begun.elapsed())
    }

    /// Waits until at most so many are not acknowledged; how many they are.
    fn wait(&self, most: u64) -> Result<u64> {
        let progress = self.progress.0.lock().ok().context("a thread panicked")?;
        let open = |progress: &Progress| self.sent - progress.taken;
        let waiting = |progress: &mut Progress| progress.trouble.is_none() && open(progress) > most;
        let waited = self.progress.1.wait_timeout_while(progress, PATIENCE, waiting);
        let (progress, late) = waited.ok().context("a thread panicked")?;
        if let Some(trouble) = &progress.trouble {
            bail!("publishing: {trouble}");
        }
        ensure!(!late.timed_out(), "publishing: {} of {} are not acknowledged", open(&progress), self.sent);
        Ok(open(&progress))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Ok(writer) = self.writer.lock() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads answers until the connection ends.
fn listen(
    reader: &mut BufReader<TcpStream>,
    language: &dyn Language,
    writer: &Mutex<TcpStream>,
    progress: &(Mutex<Progress>, Condvar),
) -> Result<()> {
    let (mut line, mut taken) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        match language.line(&line) {
            Answer::Taken => taken += 1,
            Answer::Other => {}
            Answer::Say(what) => writer.lock().ok().context("a thread panicked")?.write_all(what)?,
            Answer::Trouble => bail!("{}", String::from_utf8_lossy(&line)),
        }
        line.clear();
        // Told once for all that has come together.
        if taken > 0 && memchr::memchr(b'\n', reader.buffer()).is_none() {
            progress.0.lock().ok().context("a thread panicked")?.taken += std::mem::take(&mut taken);
            progress.1.notify_all();
        }
    }
    Ok(())
}
