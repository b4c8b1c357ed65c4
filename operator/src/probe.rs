//! What the pods say of themselves: `GET /status` on their admin port.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::plan::ADMIN_PORT;
use crate::telemetry;

/// How long one pod may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Most pods that are asked at the same time, over all gateways.
const AT_ONCE: usize = 32;
/// Totals only, so a longer answer is not the gateway's.
const MAX_BODY: usize = 256 * 1024;

/// A pod's `/status`. Fields that an older or newer gateway does not send are simply not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Whether it passes `/readyz`.
    pub ready: bool,
    /// Whether it is ending its streams.
    pub draining: bool,
    /// Open streams.
    pub connections: Option<i64>,
    pub nats: Nats,
    /// Secrets that it waits for, as `<field>: <secret>/<key>`.
    pub missing_secrets: Vec<String>,
    /// What else keeps it from being ready.
    pub problems: Vec<Problem>,
}

/// A pod's connection to NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nats {
    pub connected: Option<bool>,
    /// Why it is not connected.
    pub last_error: Option<String>,
}

/// Something that a user has to mend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// A CamelCase word.
    pub reason: String,
    /// The field, and what to do.
    pub message: String,
}

/// Why a pod could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the address can not be used")]
    Address(#[from] hyper::http::uri::InvalidUri),
    #[error("not reached")]
    Connect(#[from] hyper_util::client::legacy::Error),
    #[error("answered {0}")]
    Refused(StatusCode),
    #[error("the answer broke off or is too long: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is not a status")]
    Json(#[from] serde_json::Error),
}

/// Reads pods, a bounded number at once.
#[derive(Debug)]
pub struct Prober {
    client: Client<HttpConnector, Empty<Bytes>>,
    permits: Semaphore,
}

impl Prober {
    #[must_use]
    pub fn new() -> Self {
        // Nothing is kept open: the next look is 15 seconds away, and pods come and go.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Self { client, permits: Semaphore::new(AT_ONCE) }
    }

    /// The report of each address, in order.
    pub async fn read_all(&self, pods: &[IpAddr]) -> Vec<Result<Report, Error>> {
        if pods.is_empty() {
            return Vec::new();
        }
        let read = async {
            let reports = self.read_at(pods, ADMIN_PORT).await;
            let answers = reports.iter().flatten();
            telemetry::answered(answers.clone().count(), answers.filter(|report| report.ready).count());
            reports
        };
        read.instrument(telemetry::probe(pods.len())).await
    }

    /// Where some answer, those that did not are asked once more: over one lost packet no condition should change to and
    /// fro. Where nobody does, a second time would tell no more.
    async fn read_at(
        &self,
        pods: &[IpAddr],
        port: impl std::fmt::Display + Copy,
    ) -> Vec<Result<Report, Error>> {
        let reports = join_all(pods.iter().map(|ip| self.read(*ip, port))).await;
        if !reports.iter().any(Result::is_ok) {
            return reports;
        }
        let again = pods.iter().zip(reports).map(async |(ip, report)| match report {
            Ok(report) => Ok(report),
            Err(_) => self.read(*ip, port).await,
        });
        join_all(again).await
    }

    async fn read(&self, ip: IpAddr, port: impl std::fmt::Display) -> Result<Report, Error> {
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let uri: Uri = format!("http://{host}:{port}/status").parse()?;
        // The semaphore is never closed; were it, an unbounded read is still a right one.
        let _permit = self.permits.acquire().await.ok();
        timeout(DEADLINE, self.get(uri)).await.map_err(|_| Error::Deadline)?
    }

    async fn get(&self, uri: Uri) -> Result<Report, Error> {
        let response = self.client.get(uri).await?;
        if !response.status().is_success() {
            return Err(Error::Refused(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(Error::Body)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, and gives the port and what was asked.
    async fn pod(answer: String) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let served = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.expect("a request");
            socket.write_all(answer.as_bytes()).await.expect("written");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, served)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_pods_status_is_read() {
        let body = r#"{"ready":true,"draining":false,"connections":123,
            "nats":{"connected":true,"lastError":null},"stream":{"lag":0},
            "missingSecrets":["auth.issuers[0].keySecretRef: jwt-key/key"],
            "problems":[{"reason":"StreamOwned","message":"nats.stream.managed: owned by a/b"}]}"#;
        let (port, served) = pod(http("200 OK", body)).await;
        let report = Prober::new().read(Ipv4Addr::LOCALHOST.into(), port).await.expect("a report");
        assert!(served.await.expect("served").starts_with("GET /status HTTP/1.1\r\n"));
        assert_eq!(report.connections, Some(123));
        assert_eq!(report.nats, Nats { connected: Some(true), last_error: None });
        assert_eq!(report.missing_secrets, ["auth.issuers[0].keySecretRef: jwt-key/key"]);
        assert_eq!(report.problems[0].reason, "StreamOwned");
    }

    #[tokio::test]
    async fn absent_fields_are_not_known_and_others_are_passed_over() {
        let (port, _served) = pod(http("200 OK", r#"{"nats":{"later":1},"later":{}}"#)).await;
        let report = Prober::new().read(Ipv4Addr::LOCALHOST.into(), port).await.expect("a report");
        assert_eq!(report, Report::default());
        assert_eq!(report.connections, None);
    }

    #[tokio::test]
    async fn a_pod_that_answers_anything_else_is_not_read() {
        let long = format!("[{}1]", "1,".repeat(MAX_BODY));
        for (answer, expected) in [
            (http("503 Service Unavailable", "{}"), "answered 503 Service Unavailable"),
            (http("200 OK", "not json"), "the answer is not a status"),
            (http("200 OK", &long), "the answer broke off or is too long: length limit exceeded"),
        ] {
            let (port, _served) = pod(answer).await;
            let error = Prober::new().read(Ipv4Addr::LOCALHOST.into(), port).await.expect_err("no report");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_pod_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let error = Prober::new().read(Ipv4Addr::LOCALHOST.into(), port).await.expect_err("no report");
        assert!(matches!(error, Error::Deadline), "{error:?}");
    }

    /// A pod on this address that answers each of these once.
    async fn answering(ip: [u8; 4], port: u16, answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), port)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            for status in answers {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let length = socket.read(&mut [0; 4096]).await.expect("a request");
                assert!(length > 0, "no request");
                socket.write_all(http(status, "{}").as_bytes()).await.expect("written");
            }
        });
        port
    }

    #[tokio::test]
    async fn who_does_not_answer_among_others_is_asked_once_more() {
        let port = answering([127, 0, 0, 1], 0, &["200 OK"]).await;
        answering([127, 0, 0, 2], port, &["503 Busy", "200 OK"]).await;
        answering([127, 0, 0, 3], port, &["503 Busy", "503 Busy", "200 OK"]).await;
        let pods = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let read: Vec<_> = Prober::new().read_at(&pods, port).await.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, true, false]);
        // Where nobody answers it stays with once.
        let port = answering([127, 0, 0, 4], 0, &["503 Busy", "200 OK"]).await;
        assert!(Prober::new().read_at(&[IpAddr::from([127, 0, 0, 4])], port).await[0].is_err());
    }

    #[tokio::test]
    async fn an_ipv6_pod_is_asked_in_brackets() {
        // Port 0 is refused at once; what matters is that the address was understood.
        let error = Prober::new().read("::1".parse().expect("an address"), 0).await.expect_err("no report");
        assert!(matches!(error, Error::Connect(_)), "{error:?}");
    }
}
