//! Goes the way of a client: connects, is refused without a credential, opens a stream, waits for its first byte, and for
//! a heartbeat where there is time.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use sse_crds::SseGatewaySpec;
use tokio::time::{Instant, timeout};

use super::finding::Finding;
use super::stranger::{self, Met};
use crate::credential::Jwt;
use crate::door::{Answer, Door, DoorError, Line, Url};
use crate::session::{self, Opening, Wanted};

/// The first byte is written at once; a network takes less than this.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// What browsers offer, and some proxies cannot resist.
const CODINGS: &str = "gzip, deflate, br";
/// A heartbeat may be so much late.
const LATE: Duration = Duration::from_secs(5);

pub async fn look(door: &Door, spec: &SseGatewaySpec, jwt: Option<&Jwt>, slow: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some((door, mut line)) = enter(door.clone(), spec, &mut found).await else { return found };
    if let Some(jwt) = jwt {
        let base = session::base(&door, spec);
        let wanted = Wanted { spec, base, topics: &[], cursor: "", codings: Some(CODINGS) };
        found.extend(stream(&mut line, &wanted, jwt, slow).await.map(|finding| finding.at(&place(&door))));
    }
    found
}

fn place(door: &Door) -> String {
    match door {
        Door::Url { url, .. } => url.authority.clone(),
        Door::Pod { pod, .. } => format!("pod {pod}"),
    }
}

/// A connection to the gateway, and the door at which that is: at a URL, behind a redirect to HTTPS where there is one.
async fn enter(mut door: Door, spec: &SseGatewaySpec, found: &mut Vec<Finding>) -> Option<(Door, Line)> {
    loop {
        let at = place(&door);
        let mut line = match door.open().await {
            Ok(line) => line,
            Err(error) => {
                found.push(not_reached(&at, &error));
                return None;
            }
        };
        let Door::Url { url, trust } = &door else { return Some((door, line)) };
        let path = format!("{}/stream", session::base(&door, spec));
        match line.read(&path).await.map(|answer| stranger::met(&answer, url, &path)) {
            // Of HTTPS nobody is sent on, so this is once.
            Ok(Met::Redirect(https)) => {
                found.push(stranger::redirected(url, &https));
                door = Door::Url { url: https, trust: trust.clone() };
            }
            Ok(Met::TheGateway) => {
                found.extend(protocol(url, &line));
                return Some((door, line));
            }
            Ok(Met::Other(finding)) => {
                found.extend(protocol(url, &line));
                found.push(finding.at(&at));
                return None;
            }
            Err(error) => {
                found.extend(protocol(url, &line));
                found.push(not_reached(&at, &error));
                return None;
            }
        }
    }
}

trait At {
    fn at(self, place: &str) -> Self;
}

impl At for Finding {
    /// Names the place, where the finding does not speak of a field.
    fn at(mut self, place: &str) -> Self {
        if self.field.is_empty() {
            place.clone_into(&mut self.field);
        }
        self
    }
}

fn not_reached(at: &str, error: &DoorError) -> Finding {
    if let DoorError::Tls(_) = error {
        return Finding::error("TlsBroken", at, error.to_string())
            .because("browsers refuse to connect")
            .so("look at the names, dates and chain of the certificate; --ca-file names an authority that only you trust");
    }
    Finding::error("UrlUnreachable", at, error.to_string())
        .because("clients come this way")
        .so("look at DNS, the load balancer and its firewall, and the listener of Ingress or Gateway")
}

fn protocol(url: &Url, line: &Line) -> Option<Finding> {
    let six = "browsers keep at most six connections to a host over HTTP/1.1: the seventh tab gets nothing";
    let here = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !url.tls {
        // Nobody but this machine uses such an address.
        return (!here).then(|| {
            Finding::warning("PlainHttp", url.authority.clone(), "the URL is http://")
                .because(format!("JWTs and tokens can be read on the way, and {six}"))
                .so("set spec.tls.secretName, spec.expose.ingress.tlsSecretName, or a TLS listener of the Gateway")
        });
    }
    (!line.is_h2()).then(|| {
        Finding::warning("Http1Only", url.authority.clone(), "HTTP/2 is not offered (ALPN)")
            .because(six)
            .so("switch HTTP/2 on at whatever ends TLS there; with nginx: http2 on")
    })
}

async fn stream(line: &mut Line, wanted: &Wanted<'_>, jwt: &Jwt, slow: bool) -> Option<Finding> {
    let begun = Instant::now();
    let response = match session::open(line, wanted, jwt).await {
        Ok(Opening::Stream(response)) => response,
        Ok(Opening::Completed) => return None,
        Ok(Opening::Refused(answer)) => return Some(refused(&answer)),
        // The stranger was answered in time: what is late is the head of a stream.
        Err(DoorError::Deadline(waited)) => {
            return Some(buffered(&format!("not even its head, in {} s", waited.as_secs())));
        }
        Err(error) => return Some(not_reached("", &error)),
    };
    if let Some(finding) = no_stream(&response) {
        return Some(finding);
    }
    let compressed = compressed(&response);
    let mut body = response.into_body();
    match timeout(FIRST_BYTE, next(&mut body)).await {
        Err(_) => return Some(buffered(&format!("not its first byte, in {} s", FIRST_BYTE.as_secs()))),
        Ok(false) => return Some(cut(begun.elapsed(), wanted.spec)),
        Ok(true) => {}
    }
    if !slow {
        return compressed;
    }
    let heartbeat = Duration::from_secs(wanted.spec.stream.heartbeat_interval_seconds.into());
    let until = Instant::now() + heartbeat + LATE;
    loop {
        match tokio::time::timeout_at(until, next(&mut body)).await {
            Err(_) => {
                return Some(buffered(&format!("no heartbeat, in {} s", (heartbeat + LATE).as_secs())));
            }
            Ok(false) => return Some(cut(begun.elapsed(), wanted.spec)),
            // What is not the beginning any more has gone all the way.
            Ok(true) if begun.elapsed() >= heartbeat => return compressed,
            Ok(true) => {}
        }
    }
}

/// Whether something came; else the stream is over.
async fn next(body: &mut Incoming) -> bool {
    loop {
        match body.frame().await {
            Some(Ok(frame)) if frame.data_ref().is_some_and(|data| !data.is_empty()) => return true,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
    }
}

fn header<'a>(response: &'a Response<Incoming>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn no_stream(response: &Response<Incoming>) -> Option<Finding> {
    let kind = header(response, "content-type");
    (!kind.starts_with("text/event-stream")).then(|| {
        Finding::error("NotAStream", "", format!("the stream is called {kind:?}"))
            .because("EventSource gives up for good on any other type")
            .so("have the proxy leave the answer as it is")
    })
}

fn compressed(response: &Response<Incoming>) -> Option<Finding> {
    let coding = header(response, "content-encoding");
    (!coding.is_empty()).then(|| {
        Finding::warning("Compressed", "", format!("the stream is compressed ({coding})"))
            .because("whoever compresses collects: each event costs more, and may come late")
            .so("switch compression off for text/event-stream")
    })
}

fn refused(answer: &Answer) -> Finding {
    let (status, detail) = (answer.status.as_u16(), answer.detail());
    let what = format!("the gateway answered {status}: {}", detail.as_deref().unwrap_or("no word of why"));
    if status == 401 {
        return Finding::error("JwtRefused", "JWT", what)
            .because("whoever presents it can not connect")
            .so("look at the issuer's key: a signature that is not valid was made with another");
    }
    Finding::error("StreamRefused", "", what)
        .because("this user can not connect now")
        .so("429: spec.limits.maxConnectionsPerUser; 503: the pods are full, drain, or lost NATS; 403: tenant or topics")
}

fn buffered(what: &str) -> Finding {
    Finding::error("ProxyBuffers", "", format!("the stream was opened, and {what} came"))
        .because("something in between collects the answer: events come minutes late, or never")
        .so("nginx: proxy_buffering off, proxy_http_version 1.1, no gzip, and X-Accel-Buffering not ignored; others: no buffering, caching or compression of text/event-stream")
}

fn cut(after: Duration, spec: &SseGatewaySpec) -> Finding {
    let heartbeat = spec.stream.heartbeat_interval_seconds;
    let what = format!(
        "the stream was cut after {:.0} s; a heartbeat comes every {heartbeat} s",
        after.as_secs_f64()
    );
    Finding::error("HeartbeatAboveProxyTimeout", "", what)
        .because("each quiet stream is cut before its first heartbeat, and all clients reconnect for ever")
        .so("raise the idle or read timeout of the proxy (nginx: proxy_read_timeout), or lower spec.stream.heartbeatIntervalSeconds")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::door::Trust;

    /// What is found at a URL, where whoever is there answers this: `{port}` is a port at which nobody is.
    async fn found(answer: &str) -> Vec<(&'static str, String)> {
        let [listener, nobody] =
            [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await]
                .map(|listener| listener.expect("a port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let answer = answer.replace("{port}", &port(&nobody).to_string());
        let url = format!("http://127.0.0.1:{}/sse", port(&listener));
        drop(nobody);
        let served = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let length = socket.read(&mut [0; 4096]).await.expect("a request");
            assert!(length > 0, "no request");
            socket.write_all(answer.as_bytes()).await.expect("written");
        });
        let trust = Trust::of_machine(None).expect("whom this machine trusts");
        let door = Door::Url { url: Url::parse(&url).expect("a URL"), trust };
        let spec = json!({"nats": {"url": "nats://nats"}, "auth": {"issuers": []}});
        let spec = serde_json::from_value(spec).expect("a spec");
        let found = look(&door, &spec, None, false).await;
        served.await.expect("served");
        found.into_iter().map(|finding| (finding.code, finding.what)).collect()
    }

    fn problem(status: &str) -> String {
        let body = r#"{"detail":"No."}"#;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    fn codes(found: &[(&'static str, String)]) -> Vec<&'static str> {
        found.iter().map(|(code, _)| *code).collect()
    }

    #[tokio::test]
    async fn whoever_answers_is_told_apart() {
        assert_eq!(codes(&found(&problem("401 Unauthorized")).await), [""; 0]);
        assert_eq!(codes(&found(&problem("404 Not Found")).await), ["WrongPath"]);
        let other = found("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(codes(&other), ["NotTheGateway"]);
    }

    #[tokio::test]
    async fn behind_a_redirect_to_https_that_url_is_judged() {
        let to = "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://127.0.0.1:{port}/sse/stream\r\ncontent-length: 0\r\n\r\n";
        let found = found(to).await;
        assert_eq!(codes(&found), ["RedirectedToHttps", "UrlUnreachable"]);
        assert!(found[0].1.contains("https://127.0.0.1:"), "{}", found[0].1);
    }
}
