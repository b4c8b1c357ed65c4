//! What a pod says of itself: `/status` and `/metrics` of its admin port.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::{Deserialize, Serialize};

use crate::door::{Answer, Door, DoorError};

/// A pod's `/status`. Fields that an older or newer gateway does not send are simply not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    pub version: Option<String>,
    /// Whether it passes `/readyz`.
    pub ready: bool,
    /// Whether it is ending its streams.
    pub draining: bool,
    /// Open streams.
    pub connections: Option<u64>,
    pub nats: Nats,
    pub stream: Option<Stream>,
    /// Events that could not be delivered to anybody.
    pub refused_events: Option<u64>,
    /// Secrets that it waits for, as `<field>: <secret>/<key>`.
    pub missing_secrets: Vec<String>,
    /// What else keeps it from serving.
    pub problems: Vec<Problem>,
    /// What does not, but will.
    pub warnings: Vec<Problem>,
}

/// A pod's connection to NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nats {
    pub connected: Option<bool>,
    pub last_error: Option<String>,
}

/// The log, as a pod sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    pub name: String,
    pub epoch: Option<String>,
    pub last_sequence: u64,
    /// Events of it that this pod has not handed out yet.
    pub lag: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Problem {
    /// A CamelCase word.
    pub reason: String,
    /// Begins with the field.
    pub message: String,
}

/// Why a pod's own word can not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error("{0} answered {1}")]
    Refused(&'static str, u16),
    #[error("the answer is not a status: {0}")]
    Json(#[from] serde_json::Error),
}

/// What was seen at a pod's admin port.
#[derive(Clone, Debug)]
pub struct Seen {
    pub report: Report,
    /// Its clock, and ours at the same time.
    pub clocks: Option<(Timestamp, Timestamp)>,
    /// Streams that it may have, by its open-file limit too.
    pub limit: Option<u64>,
}

/// # Errors
///
/// When the pod does not answer in time.
pub async fn read(admin: &Door) -> Result<Report, ReportError> {
    let answer = admin.open().await?.read("/status").await?;
    parse(&answer)
}

/// The same, with what else a doctor looks at.
///
/// # Errors
///
/// When the pod does not answer in time.
pub async fn examine(admin: &Door) -> Result<Seen, ReportError> {
    let mut line = admin.open().await?;
    let answer = line.read("/status").await?;
    let clocks = date(&answer).map(|theirs| (theirs, Timestamp::now()));
    let report = parse(&answer)?;
    let metrics = line.read("/metrics").await?;
    Ok(Seen { report, clocks, limit: metric(&metrics.body, "sse_server_connections_limit") })
}

fn parse(answer: &Answer) -> Result<Report, ReportError> {
    if !answer.status.is_success() {
        return Err(ReportError::Refused("/status", answer.status.as_u16()));
    }
    Ok(serde_json::from_str(&answer.body)?)
}

/// The clock of whoever answered.
pub fn date(answer: &Answer) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(answer.header("date")?).ok()
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn answer(body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("a value"));
        Answer { status: StatusCode::OK, headers, body: body.into() }
    }

    #[test]
    fn a_status_is_read_and_what_is_not_known_is_passed_over() {
        let report = parse(&answer(
            r#"{"connections":3,"nats":{"connected":true},"later":1,
                "stream":{"name":"SSE_sse","epoch":"6f1c2a9b","lastSequence":7,"head":6,"lag":1}}"#,
        ))
        .expect("a status");
        assert_eq!((report.connections, report.nats.connected), (Some(3), Some(true)));
        assert_eq!(report.stream.map(|stream| (stream.name, stream.lag)), Some(("SSE_sse".into(), 1)));
        assert_eq!(parse(&answer("{}")).expect("a status"), Report::default());
    }

    #[test]
    fn the_clock_of_an_answer_is_read() {
        assert_eq!(date(&answer("")).map(Timestamp::as_second), Some(784_111_777));
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE a gauge\nab 1\na 42\na{b=\"c\"} 2\n";
        assert_eq!((metric(text, "a"), metric(text, "c")), (Some(42), None));
    }
}
