//! What a limit of messages per subject takes away. It leaves holes inside the log, which its first
//! sequence does not show.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{Log, LogError};

/// Clients for whom the leader is asked at one time: thousands may come back together.
pub(super) const LOOKS: usize = 64;
/// How long a client waits for its turn before it tries again.
const TURN: Duration = Duration::from_secs(5);
/// Subjects that are looked at. Of more, something is taken for lost.
const SUBJECTS: usize = 64;

impl Log {
    /// Whether a client that listens to these subjects (they may have wildcards) and saw everything
    /// up to `after` may have missed what a `limit` of messages per subject removed: a subject that
    /// has reached it has its oldest message above `after + 1`. Asks the leader only.
    ///
    /// Messages that expire by a TTL of their own can hide that a subject had reached the limit.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time.
    pub async fn lost_since(&self, subjects: &[String], after: u64, limit: u64) -> Result<bool, LogError> {
        let turn = timeout(TURN, self.looks.acquire()).await;
        let _turn = turn.map_err(|_| LogError::TimedOut)?.map_err(|_| LogError::NotConnected)?;
        let mut looked_at = 0;
        for filter in subjects {
            let info = self.reader.info(&json!({"subjects_filter": filter})).await?;
            let Some(counts) = info["state"]["subjects"].as_object() else { continue };
            looked_at += counts.len().max(1);
            if looked_at > SUBJECTS {
                return Ok(true);
            }
            let full = counts.iter().filter(|(_, count)| count.as_u64().is_some_and(|count| count >= limit));
            for (subject, _) in full {
                let first = self.reader.next_on(subject, 1).await?;
                if first.is_some_and(|first| first.sequence() > after + 1) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
