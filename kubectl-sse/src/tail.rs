//! `kubectl sse tail`: the events of a stream, each once, whatever happens to pods.
//!
//! A stream that ends is opened again at its cursor, at another pod where there is one. It ends for good when its last
//! event was the last, when the gateway refuses in a way that does not pass, or when enough events came. Who makes the
//! JWTs may be away meanwhile.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::json;
use sse_crds::SseGateway;
use sse_crds::delivery::HeartbeatMode;
use tokio::time::{sleep, timeout};

use crate::arguments::{self, Output};
use crate::cluster::Cluster;
use crate::credential::Credential;
use crate::door::{Answer, Door};
use crate::frames::{Block, Parser};
use crate::say::{self, Paint, tame};
use crate::session::{self, Opening, Wanted};

/// Pauses between attempts, with jitter: from the first to the longest.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A stream that is silent for so many heartbeats is dead.
const HEARTBEATS: u32 = 3;

/// A credential that was accepted may be refused so often before that is believed.
const REFUSALS: u32 = 3;

/// Why a stream is over.
enum End {
    /// For good.
    Completed,
    /// As many events as were asked for have come.
    Enough,
    /// It is worth another attempt.
    Lost(String),
}

/// # Errors
///
/// When the gateway refuses for good, or the output is closed.
pub async fn run(cluster: &Cluster, arguments: &arguments::Tail) -> Result<ExitCode> {
    let gateway = cluster.gateway(&arguments.name).await?;
    let url = Door::at_url(&arguments.door)?;
    let mut tail = Tail {
        arguments,
        gateway,
        credential: Credential::required(&arguments.jwt)?,
        cursor: arguments.last_event_id.clone().unwrap_or_default(),
        seen: 0,
        refusals: None,
        paint: Paint::of_output(),
    };
    let (mut attempt, mut last_pod) = (0, None);
    loop {
        let before = tail.seen;
        let end = match cluster.way(&tail.gateway, url.as_ref(), last_pod.as_deref()).await {
            Ok((door, pod)) => {
                last_pod = pod;
                tail.follow(&door, last_pod.as_deref()).await?
            }
            Err(error) => End::Lost(format!("{error:#}")),
        };
        match end {
            End::Completed => {
                say::note("the stream is complete");
                return Ok(ExitCode::SUCCESS);
            }
            End::Enough => return Ok(ExitCode::SUCCESS),
            End::Lost(why) => {
                // One that brought something was good: what follows is a new beginning.
                attempt = if tail.seen > before { 0 } else { attempt + 1 };
                say::note(&format!("{}; connecting again", tame(&why)));
                sleep(BACKOFF[attempt.min(BACKOFF.len() - 1)].mul_f64(rand::random_range(0.75..1.25))).await;
            }
        }
    }
}

struct Tail<'a> {
    arguments: &'a arguments::Tail,
    gateway: SseGateway,
    credential: Credential,
    /// The place from which to go on.
    cursor: String,
    /// Events that were printed.
    seen: u64,
    /// How often the credential was refused since it was accepted; none: it never was.
    refusals: Option<u32>,
    paint: Paint,
}

impl Tail<'_> {
    /// Follows one stream to its end.
    async fn follow(&mut self, door: &Door, pod: Option<&str>) -> Result<End> {
        let jwt = match self.credential.get().await {
            Ok(jwt) => jwt,
            Err(error) => return self.without_jwt(error),
        };
        let mut line = match door.open().await {
            Ok(line) => line,
            Err(error) => return Ok(End::Lost(error.to_string())),
        };
        let spec = &self.gateway.spec;
        let base = session::base(door, spec);
        let wanted =
            Wanted { spec, base, topics: &self.arguments.topics, cursor: &self.cursor, codings: None };
        match session::open(&mut line, &wanted, &jwt).await {
            Ok(Opening::Stream(response)) => {
                let at = pod.map_or_else(|| "connected".into(), |pod| format!("connected to pod {pod}"));
                let place =
                    if self.cursor.is_empty() { String::new() } else { format!(", after {}", self.cursor) };
                say::note(&format!("{at}{place}"));
                self.refusals = Some(0);
                self.print(response).await
            }
            Ok(Opening::Completed) => Ok(End::Completed),
            Ok(Opening::Refused(answer)) => self.refused(&answer).await,
            Err(error) => Ok(End::Lost(error.to_string())),
        }
    }

    /// Whether a refusal passes.
    async fn refused(&mut self, answer: &Answer) -> Result<End> {
        let status = answer.status.as_u16();
        let detail = answer.detail().unwrap_or_else(|| "no word of why: it may not be the gateway".into());
        let why = format!("the gateway answered {status}: {}", tame(&detail));
        match status {
            429 | 500..=599 => return Ok(End::Lost(why)),
            401 => {
                match self.credential.renew().await {
                    Ok(true) => return Ok(End::Lost(format!("{why} Another JWT is tried"))),
                    Ok(false) => {}
                    Err(error) => return self.without_jwt(error),
                }
                // A pod that does not reach what others know refuses what is good, for a moment.
                if let Some(refusals @ 0..REFUSALS) = self.refusals {
                    self.refusals = Some(refusals + 1);
                    return Ok(End::Lost(why));
                }
            }
            _ => {}
        }
        bail!(why)
    }

    /// Who made a JWT before may be away for a moment, as pods may be. What never worked is told at once.
    fn without_jwt(&self, error: anyhow::Error) -> Result<End> {
        if self.refusals.is_some() && self.credential.can_renew() {
            return Ok(End::Lost(format!("{error:#}")));
        }
        Err(error)
    }

    async fn print(&mut self, response: Response<Incoming>) -> Result<End> {
        let silence =
            Duration::from_secs(self.gateway.spec.stream.heartbeat_interval_seconds.into()) * HEARTBEATS;
        let (mut body, mut parser) = (response.into_body(), Parser::default());
        loop {
            let frame = match timeout(silence, body.frame()).await {
                Err(_) => return Ok(End::Lost(format!("nothing came for {} s", silence.as_secs()))),
                Ok(None) => return Ok(End::Lost("the stream ended".into())),
                Ok(Some(Err(error))) => return Ok(End::Lost(format!("the stream was cut: {error}"))),
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(bytes) = frame.data_ref() else { continue };
            parser.push(bytes)?;
            while let Some(block) = parser.block() {
                if let Some(end) = self.take(&block)? {
                    return Ok(end);
                }
            }
        }
    }

    fn take(&mut self, block: &Block) -> Result<Option<End>> {
        if self.arguments.raw {
            say::out(&block.raw)?;
        }
        // The place is told by events, and by blocks that are nothing else.
        if let Some(id) = &block.id {
            self.cursor.clone_from(id);
        }
        let Some(data) = &block.data else { return Ok(None) };
        let kind = block.event.as_deref().unwrap_or("message");
        if self.gateway.spec.stream.heartbeat_mode == HeartbeatMode::Event && is_heartbeat(kind, data) {
            return Ok(None);
        }
        let is_gap = kind == "reset" && block.id.is_none();
        if is_gap {
            say::note(&format!("RESET: {}: events were lost, or come again", tame(data)));
        }
        if !self.arguments.raw {
            say::out(&line(block, kind, data, self.arguments.output, self.paint))?;
        }
        self.seen += u64::from(!is_gap);
        if block.id.as_ref().is_some_and(|id| id.ends_with("-end")) {
            return Ok(Some(End::Completed));
        }
        Ok((self.arguments.count == Some(self.seen)).then_some(End::Enough))
    }
}

/// Whether the gateway wrote it. Applications may have events of that name, with data of their own.
fn is_heartbeat(kind: &str, data: &str) -> bool {
    kind == "heartbeat"
        && serde_json::from_str(data).is_ok_and(|data: serde_json::Value| data["type"] == "heartbeat")
}

/// An event as it is printed.
fn line(block: &Block, kind: &str, data: &str, output: Output, paint: Paint) -> String {
    match output {
        Output::Json => json!({"id": block.id, "event": kind, "data": data}).to_string(),
        Output::Text => {
            let id = paint.faint(block.id.as_deref().unwrap_or("-"));
            let name = if kind == "reset" { paint.bad(kind) } else { paint.strong(&tame(kind)) };
            let mut lines = data.split('\n').map(tame);
            let first = lines.next().unwrap_or_default();
            lines.fold(format!("{id}  {name}  {first}"), |text, line| format!("{text}\n    {line}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::door::{Trust, Url};

    fn block(id: Option<&str>, data: &str) -> Block {
        Block { id: id.map(str::to_owned), data: Some(data.into()), ..Block::default() }
    }

    #[test]
    fn an_event_is_a_line_with_its_id_type_and_data() {
        let text = |block: &Block, kind| {
            line(block, kind, block.data.as_deref().unwrap_or_default(), Output::Text, Paint::plain())
        };
        assert_eq!(text(&block(Some("6f-1"), "hello"), "message"), "6f-1  message  hello");
        assert_eq!(text(&block(Some("6f-1"), "a\nb"), "order"), "6f-1  order  a\n    b");
        assert_eq!(text(&block(None, "{}"), "reset"), "-  reset  {}");
        assert_eq!(text(&block(Some("6f-1"), "\u{1b}[2J"), "m"), "6f-1  m   [2J");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let event = block(Some("6f-1"), "a\nb");
        let text = line(&event, "message", "a\nb", Output::Json, Paint::plain());
        assert_eq!(text, r#"{"data":"a\nb","event":"message","id":"6f-1"}"#);
    }

    #[test]
    fn a_heartbeat_is_known_by_its_data() {
        assert!(is_heartbeat("heartbeat", r#"{"type":"heartbeat","timestamp":"1764342797.123"}"#));
        for (kind, data) in [
            ("heartbeat", r#"{"bpm":72}"#),
            ("heartbeat", "72"),
            ("heartbeat", ""),
            ("pulse", r#"{"type":"heartbeat"}"#),
        ] {
            assert!(!is_heartbeat(kind, data), "{kind} {data}");
        }
    }

    #[tokio::test]
    async fn a_command_that_gives_no_jwt_ends_a_tail_only_before_its_first_stream() {
        let door = Door::Url {
            url: Url::parse("https://nowhere.invalid").expect("a URL"),
            trust: Trust::of_machine(None).expect("whom this machine trusts"),
        };
        for (flag, word, refusals, goes_on) in [
            ("--jwt-command", "exit 3", None, false),
            ("--jwt-command", "exit 3", Some(0), true),
            ("--jwt", "none", Some(0), false),
        ] {
            let asked = Arguments::try_parse_from(["kubectl-sse", "tail", "live", flag, word]);
            let Ok(Arguments { command: Command::Tail(arguments), .. }) = asked else {
                unreachable!("that is what is asked for");
            };
            let gateway = json!({
                "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "metadata": {"name": "live"},
                "spec": {"nats": {"url": "nats://nats"}, "auth": {"issuers": []}},
            });
            let mut tail = Tail {
                arguments: &arguments,
                gateway: serde_json::from_value(gateway).expect("a gateway"),
                credential: Credential::required(&arguments.jwt).expect("a way"),
                cursor: String::new(),
                seen: 0,
                refusals,
                paint: Paint::plain(),
            };
            let end = tail.follow(&door, None).await;
            assert_eq!(matches!(end, Ok(End::Lost(_))), goes_on, "{flag} {refusals:?}");
            assert_eq!(end.is_err(), !goes_on, "{flag} {refusals:?}");
        }
    }
}
