//! A client that reads numbered events, comes back when and where it is told to, and tolerates neither a gap nor an
//! event twice, a cut nor a refusal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::raw::Raw;

/// Something comes every second.
const PATIENCE: Duration = Duration::from_secs(20);
const READ: usize = 16 * 1024;
/// The event after the last number.
pub const LAST: &str = "last";

/// What a client was through.
#[derive(Debug, Default)]
pub struct Followed {
    /// Events, numbered from 0.
    pub seen: u64,
    /// When it was told to come back.
    pub sent_away: Vec<Instant>,
}

/// Follows from the first event to [`LAST`], or until it is to leave; `open` opens a stream at a cursor.
///
/// # Errors
///
/// When anything but the next event comes, or a stream ends otherwise than it should.
pub async fn follow(
    mut raw: Raw,
    open: impl AsyncFn(&str) -> Result<Raw>,
    leave: CancellationToken,
) -> Result<Followed> {
    let mut followed = Followed::default();
    loop {
        for event in raw.events() {
            ensure!(event.name == "message", "{event:?}");
            if event.data == LAST {
                return Ok(followed);
            }
            ensure!(event.data == followed.seen.to_string(), "{event:?} after {} events", followed.seen);
            followed.seen += 1;
        }
        if !raw.is_over() {
            let read = timeout(PATIENCE, raw.read(READ));
            let Some(read) = leave.run_until_cancelled(read).await else { return Ok(followed) };
            ensure!(read.context("nothing came")?? > 0, "cut off");
            continue;
        }
        let retry = raw.retry.context("told to go, but not when to come back")?;
        ensure!((500..=1500).contains(&retry), "retry: {retry}");
        followed.sent_away.push(Instant::now());
        sleep(Duration::from_millis(retry)).await;
        raw = open(&raw.id).await.context("coming back")?;
    }
}

/// The most of these moments that lie within so long a time, wherever that begins.
#[must_use]
pub fn most_within(mut times: Vec<Instant>, length: Duration) -> usize {
    times.sort_unstable();
    let within = |(index, from): (usize, &Instant)| {
        times[index..].iter().take_while(|time| **time - *from < length).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or_default()
}
