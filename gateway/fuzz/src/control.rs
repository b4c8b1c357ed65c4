//! Control operations: what is read is written again, and read as the same.

use serde_json::json;
use sse_gateway::control::{self, Operation};
use sse_gateway::subject::{Pattern, Target, token};

/// A pattern as people write it.
fn written(pattern: &Pattern) -> String {
    let levels = pattern.levels().map(|level| token::decode(level).expect("it was made of text"));
    levels.collect::<Vec<_>>().join(".")
}

pub fn check(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(target) = control::target("sse-ctl", text)
    {
        assert!(matches!(target, Target::User { .. } | Target::Connection { .. } | Target::Tenant { .. }));
    }
    let Ok(operation) = Operation::parse(input) else { return };
    assert!(input.len() <= 64 * 1024);
    let written = |topics: &[Pattern]| topics.iter().map(written).collect::<Vec<_>>();
    let json = match &operation {
        Operation::Disconnect { reason } => {
            assert!(reason.chars().count() <= 200);
            json!({"op": "disconnect", "reason": reason})
        }
        Operation::Join { topics } | Operation::Leave { topics } => {
            assert!(topics.len() <= 1000);
            json!({"op": operation.name(), "topics": written(topics)})
        }
        Operation::Tag { tags } => {
            assert!(tags.len() <= 16);
            json!({"op": "tag", "tags": tags})
        }
        Operation::Ping => json!({"op": "ping"}),
    };
    let again = Operation::parse(json.to_string().as_bytes());
    assert_eq!(again, Ok(operation), "{json}");
}
