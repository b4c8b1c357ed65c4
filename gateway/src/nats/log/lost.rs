//! What a limit of messages per subject takes away. It leaves holes inside the log, which its first
//! sequence does not show.

use serde_json::json;

use super::{Log, LogError};

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
