//! What back ends may ask of open connections: `<prefix>-ctl.<tenant>.user.<user>`, `….conn.<id>` and
//! `….all`, over core NATS, as JSON. Best effort, not stored, and gone with the connection.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::subject::{self, Pattern, SubjectError, Target, TopicError};

/// Largest operation that is looked at, in bytes.
const MAX_SIZE: usize = 64 * 1024;
/// Most topics of one operation.
const MAX_TOPICS: usize = 1000;
/// Most tags of one operation.
const MAX_TAGS: usize = 16;
/// Longest name or value of a tag, in bytes.
const MAX_TAG: usize = 256;

/// Something to be done to connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ends them. No revocation: a client may come back with a good credential.
    Disconnect {
        reason: String,
    },
    /// Subscribes them, whatever their credential grants: the back end knows.
    Join {
        topics: Vec<Pattern>,
    },
    Leave {
        topics: Vec<Pattern>,
    },
    /// Sets tags; one without a value is taken away.
    Tag {
        tags: BTreeMap<String, Option<String>>,
    },
    /// Writes a heartbeat now.
    Ping,
}

/// Why a control message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error("the subject names no user, no connection and no tenant")]
    NoTarget,
    #[error("the operation is larger than {MAX_SIZE} bytes")]
    TooLarge,
    #[error("the payload is no operation: {0}")]
    NoOperation(String),
    #[error("a topic {0}")]
    Topic(#[from] TopicError),
    #[error("there are more than {MAX_TOPICS} topics")]
    ManyTopics,
    #[error("there are more than {MAX_TAGS} tags, or one has more than {MAX_TAG} bytes")]
    Tags,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Json {
    Disconnect {
        #[serde(default)]
        reason: String,
    },
    Join {
        topics: Vec<String>,
    },
    Leave {
        topics: Vec<String>,
    },
    Tag {
        tags: BTreeMap<String, Option<String>>,
    },
    Ping,
}

/// Reads whom a control subject is for.
///
/// # Errors
///
/// When it is for nobody who can be controlled.
pub fn target<'a>(prefix: &str, subject: &'a str) -> Result<Target<'a>, ControlError> {
    match subject::target(prefix, subject)? {
        target @ (Target::User { .. } | Target::Connection { .. } | Target::Tenant { .. }) => Ok(target),
        _ => Err(ControlError::NoTarget),
    }
}

impl Operation {
    /// Reads an operation.
    ///
    /// # Errors
    ///
    /// When it is none, or is larger than it may be.
    pub fn parse(payload: &[u8]) -> Result<Self, ControlError> {
        if payload.len() > MAX_SIZE {
            return Err(ControlError::TooLarge);
        }
        let json: Json =
            serde_json::from_slice(payload).map_err(|error| ControlError::NoOperation(error.to_string()))?;
        match json {
            Json::Disconnect { reason } => {
                Ok(Self::Disconnect { reason: reason.chars().take(200).collect() })
            }
            Json::Join { topics } => Ok(Self::Join { topics: patterns(&topics)? }),
            Json::Leave { topics } => Ok(Self::Leave { topics: patterns(&topics)? }),
            Json::Tag { tags } => {
                let fits = |text: &str| text.len() <= MAX_TAG;
                let fit = tags.iter().all(|(name, value)| fits(name) && value.as_deref().is_none_or(fits));
                if tags.len() > MAX_TAGS || !fit {
                    return Err(ControlError::Tags);
                }
                Ok(Self::Tag { tags })
            }
            Json::Ping => Ok(Self::Ping),
        }
    }

    /// Its name, for the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Disconnect { .. } => "disconnect",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Tag { .. } => "tag",
            Self::Ping => "ping",
        }
    }
}

fn patterns(topics: &[String]) -> Result<Vec<Pattern>, ControlError> {
    if topics.len() > MAX_TOPICS {
        return Err(ControlError::ManyTopics);
    }
    Ok(topics.iter().map(|topic| Pattern::parse(topic)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        let topic = |text| Pattern::parse(text).expect("a topic");
        for (json, operation) in [
            (r#"{"op":"disconnect","reason":"kicked"}"#, Operation::Disconnect { reason: "kicked".into() }),
            (r#"{"op":"disconnect"}"#, Operation::Disconnect { reason: String::new() }),
            (
                r#"{"op":"join","topics":["Orders.*","news"]}"#,
                Operation::Join { topics: vec![topic("orders.*"), topic("news")] },
            ),
            (r#"{"op":"ping"}"#, Operation::Ping),
            (
                r#"{"op":"tag","tags":{"a":"b","c":null}}"#,
                Operation::Tag { tags: [("a".into(), Some("b".into())), ("c".into(), None)].into() },
            ),
        ] {
            assert_eq!(Operation::parse(json.as_bytes()), Ok(operation), "{json}");
        }
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for json in ["", "{}", r#"{"op":"dance"}"#, r#"{"op":"join"}"#, r#"{"op":"join","topics":["a..b"]}"#]
        {
            assert!(Operation::parse(json.as_bytes()).is_err(), "{json}");
        }
        let many: BTreeMap<String, &str> = (0..17).map(|i| (i.to_string(), "x")).collect();
        let json = serde_json::json!({"op": "tag", "tags": many}).to_string();
        assert_eq!(Operation::parse(json.as_bytes()), Err(ControlError::Tags));
    }

    #[test]
    fn only_users_connections_and_tenants_are_controlled() {
        assert!(target("sse-ctl", "sse-ctl.acme.user.alice").is_ok());
        assert!(target("sse-ctl", "sse-ctl.acme.all").is_ok());
        assert_eq!(target("sse-ctl", "sse-ctl.acme.topic.a"), Err(ControlError::NoTarget));
        assert_eq!(target("sse-ctl", "sse-ctl._platform.all"), Err(ControlError::NoTarget));
    }
}
