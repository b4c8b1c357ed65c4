//! What somebody without a credential is answered at a public URL: by the gateway, 401 and nothing else. Anything else
//! tells who is there instead.

use super::finding::Finding;
use crate::door::{Answer, Url};

/// Whom a stranger met.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    TheGateway,
    /// Somebody who leads from HTTP to HTTPS, as most proxies with TLS do: the way goes on there.
    Redirect(Url),
    /// Nobody who would serve clients.
    Other(Finding),
}

/// Who answered `path` at `url`.
pub fn met(answer: &Answer, url: &Url, path: &str) -> Met {
    let status = answer.status.as_u16();
    // Its errors are problems with a detail, in the words of RFC 9457.
    let is_ours = answer.detail().is_some();
    match status {
        // What the gateway has to say of itself is said by its pods.
        401 | 429 | 503 if is_ours => Met::TheGateway,
        404 if is_ours => Met::Other(
            Finding::error("WrongPath", "", format!("the gateway answers, but has nothing at {path}"))
                .because("requests of clients reach it at a path that is none of its own")
                .so("compare the path with spec.endpoints.basePath, and look for a rewriting of paths on the way"),
        ),
        _ => match to_https(answer, url, path) {
            Some(https) => Met::Redirect(https),
            None => Met::Other(elsewhere(answer, path)),
        },
    }
}

fn elsewhere(answer: &Answer, path: &str) -> Finding {
    let (status, kind) = (answer.status.as_u16(), answer.header("content-type").unwrap_or("no type"));
    let to = answer.header("location").map(|to| format!(", to {to}")).unwrap_or_default();
    Finding::error(
        "NotTheGateway",
        "",
        format!("{path} is answered with {status} ({kind}{to}), and not by the gateway"),
    )
    .because("requests of clients end somewhere else")
    .so("look at host, path and rewriting of the Ingress or route; 502 to 504 mean that it does not reach the pods")
}

/// Where a redirect leads, if that is the same endpoint of the same host with TLS.
fn to_https(answer: &Answer, url: &Url, path: &str) -> Option<Url> {
    let mut to = Url::parse(answer.header("location")?).ok()?;
    let is_same = to.host.eq_ignore_ascii_case(&url.host) && to.path == path;
    if url.tls || !answer.status.is_redirection() || !to.tls || !is_same {
        return None;
    }
    to.path.clone_from(&url.path);
    Some(to)
}

/// What there is to say of a URL that only leads to another.
pub fn redirected(from: &Url, to: &Url) -> Finding {
    let what = format!("http:// is redirected to https://{}", to.authority);
    Finding::warning("RedirectedToHttps", from.authority.clone(), what)
        .because("the first request of each client goes unencrypted, with its JWT, and a POST does not survive most redirects")
        .so("give clients https://; status.url says so when the TLS is named: spec.expose.ingress.tlsSecretName, or a sectionName that begins with https, or port 443, in spec.expose.httpRoute.parentRefs")
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    const PATH: &str = "/api/v1/sse/stream";
    const PROBLEM: &str = r#"{"title":"Not Found","status":404,"detail":"There is nothing here."}"#;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        Answer { status: StatusCode::from_u16(status).expect("a status"), headers, body: body.into() }
    }

    fn code(met: Met) -> &'static str {
        match met {
            Met::TheGateway => "",
            Met::Redirect(_) => "redirect",
            Met::Other(finding) => finding.code,
        }
    }

    #[test]
    fn the_gateway_is_known_by_its_problems() {
        let problem = [("content-type", "application/problem+json")];
        let html = [("content-type", "text/html")];
        let at = url("https://live.example.com/api/v1/sse");
        for (status, headers, expected) in [
            (401, problem, ""),
            (503, problem, ""),
            (404, problem, "WrongPath"),
            (500, problem, "NotTheGateway"),
            (401, html, "NotTheGateway"),
            (404, html, "NotTheGateway"),
            (200, html, "NotTheGateway"),
        ] {
            assert_eq!(code(met(&answer(status, &headers, PROBLEM), &at, PATH)), expected, "{status}");
        }
    }

    #[test]
    fn a_redirect_to_the_same_place_with_tls_is_followed_and_no_other() {
        let http = url("http://live.example.com/api/v1/sse");
        let to = |from: &Url, status: u16, location: &str| {
            met(&answer(status, &[("location", location)], ""), from, PATH)
        };
        let same = "https://live.example.com/api/v1/sse/stream";
        for status in [301, 302, 307, 308] {
            let expected = url("https://live.example.com/api/v1/sse");
            assert_eq!(to(&http, status, same), Met::Redirect(expected), "{status}");
        }
        // Without a path of its own the gateway's is asked for, here as there.
        let bare = to(&url("http://live.example.com"), 308, same);
        assert_eq!(bare, Met::Redirect(url("https://live.example.com")));
        let port = to(&http, 308, "https://LIVE.example.com:8443/api/v1/sse/stream?a=b");
        assert!(matches!(port, Met::Redirect(Url { port: 8443, .. })), "{port:?}");
        for (status, location) in [
            (200, same),
            (302, "https://login.example.com/api/v1/sse/stream"),
            (302, "https://live.example.com/login"),
            (302, "http://live.example.com/api/v1/sse/stream"),
            (302, "/login"),
        ] {
            assert_eq!(code(to(&http, status, location)), "NotTheGateway", "{status} {location}");
        }
        assert_eq!(code(to(&url("https://live.example.com"), 308, same)), "NotTheGateway", "a loop");
    }

    #[test]
    fn where_it_leads_instead_is_told() {
        let to = "https://login.example.com/";
        let Met::Other(finding) = met(&answer(302, &[("location", to)], ""), &url("https://a"), PATH) else {
            unreachable!("nobody else answers");
        };
        assert!(finding.what.contains("302") && finding.what.contains(to), "{}", finding.what);
    }
}
