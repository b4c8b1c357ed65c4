//! Reads the credential of a request: which one counts when there are several, and whether a browser
//! may have sent it for a page that is not ours.
//!
//! At the stream endpoint the token of the query counts before `Authorization`, and that before the
//! cookie; what a mode does not accept is passed over, except for a token in the query, which is
//! meant for nobody else. At the token endpoint only `Authorization` counts, and at that for events it
//! counts before the cookie, whatever the modes say of streams.
//!
//! A browser adds a cookie to every request, also to those that a foreign page makes. So a request by
//! cookie must come from a page of this host or of an exact `cors.allowedOrigins` entry. Browsers say
//! so in `Origin` for an `EventSource` of another origin; an `<img>` of a foreign page has no `Origin`,
//! but would use up the user's connections, and tells itself by `Sec-Fetch-Site`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sse_crds::auth::{Auth, Mode};

use super::Gateway;
use super::outcome::Outcome;
use super::problem::{Passes, Problem};
use crate::auth::{Identity, Unauthorized};
use crate::wire;

/// The credential that counts.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    Token(&'a str),
    Bearer(&'a str),
    Cookie(&'a str),
}

impl Gateway {
    /// Verifies the JWT in `Authorization`, and that a tenant header, if there is one, agrees.
    pub(super) async fn bearer(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        self.verified(authorization(headers)?.ok_or(Unauthorized::NoCredential)?, headers).await
    }

    async fn verified(&self, jwt: &str, headers: &HeaderMap) -> Result<Identity, Problem> {
        let identity = self.verifier.verify(jwt).await?;
        check_tenant(&identity, headers)?;
        Ok(identity)
    }

    /// Verifies the credential of a request to publish.
    pub(super) async fn publisher(&self, head: &Parts) -> Result<Identity, Problem> {
        let auth = &self.config.spec.auth;
        if authorization(&head.headers)?.is_some() || !auth.modes.contains(&Mode::Cookie) {
            return self.bearer(&head.headers).await;
        }
        let jwt = cookie(&head.headers, &auth.cookie.name)?.ok_or(Unauthorized::NoCredential)?;
        if !is_own_page(&head.headers, &head.uri, &self.config.spec.cors.allowed_origins) {
            return Err(foreign_page());
        }
        self.verified(jwt, &head.headers).await
    }

    /// Verifies the credential of a stream request, and uses it up when it is a token.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        token: Option<&str>,
    ) -> Result<Identity, Problem> {
        match presented(&self.config.spec.auth, headers, token)? {
            Credential::Bearer(jwt) | Credential::Cookie(jwt) => self.verified(jwt, headers).await,
            Credential::Token(token) => {
                let redeemed = self.redeem(token).await;
                self.count_token(&redeemed, "redeemed");
                let identity = redeemed?;
                check_tenant(&identity, headers)?;
                Ok(identity)
            }
        }
    }

    async fn redeem(&self, token: &str) -> Result<Identity, Problem> {
        let (tokens, _turn) = self.tokens().await?;
        Ok(tokens.redeem(token).await?)
    }

    /// Counts what became of a token.
    pub(super) fn count_token<T>(&self, done: &Result<T, Problem>, good: &'static str) {
        self.context.telemetry.metrics.tokens.inc(match done {
            Ok(_) => good,
            Err(problem) if problem.is_unavailable() => "unavailable",
            Err(_) => "refused",
        });
    }
}

/// The credential of a stream request; `token` is that of the query.
///
/// # Errors
///
/// When there is none that the modes accept, or it is in doubt which.
pub fn presented<'a>(
    auth: &Auth,
    headers: &'a HeaderMap,
    token: Option<&'a str>,
) -> Result<Credential<'a>, Unauthorized> {
    let accepts = |mode| auth.modes.contains(&mode);
    if let Some(token) = token {
        return accepts(Mode::Token).then_some(Credential::Token(token)).ok_or(Unauthorized::NoCredential);
    }
    if accepts(Mode::Bearer)
        && let Some(jwt) = authorization(headers)?
    {
        return Ok(Credential::Bearer(jwt));
    }
    if accepts(Mode::Cookie)
        && let Some(jwt) = cookie(headers, &auth.cookie.name)?
    {
        return Ok(Credential::Cookie(jwt));
    }
    Err(Unauthorized::NoCredential)
}

/// Whether it is the cookie that speaks for a stream request.
pub fn is_by_cookie<B>(auth: &Auth, request: &Request<B>) -> bool {
    #[derive(Deserialize)]
    struct Presented {
        token: Option<String>,
    }
    let token = Query::<Presented>::try_from_uri(request.uri());
    request.method() == Method::GET
        && token.is_ok_and(|Query(Presented { token })| token.is_none())
        && matches!(presented(auth, request.headers(), None), Ok(Credential::Cookie(_)))
}

/// Around the stream endpoint: what is different when the cookie speaks, which a native `EventSource`
/// sends. It is refused to foreign pages; and since an `EventSource` gives up for good at any error, it is
/// asked to come back where one passes.
pub(super) async fn by_cookie(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if !is_by_cookie(&gateway.config.spec.auth, &request) {
        return next.run(request).await;
    }
    if !is_own_page(request.headers(), request.uri(), &gateway.config.spec.cors.allowed_origins) {
        return foreign_page().into_response();
    }
    let version = request.version();
    let response = next.run(request).await;
    if response.extensions().get::<Passes>().is_none() {
        return response;
    }
    let outcome = Outcome::in_response(&response);
    (Extension(outcome), come_back(version)).into_response()
}

fn foreign_page() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "A page of this origin may not use the cookie.")
}

/// An event stream that only says when to come back.
fn come_back(version: Version) -> Response {
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let retry = wire::retry(rand::random_range(1000..=5000));
    let mut response = (head, retry.as_bytes().to_vec()).into_response();
    // On a new connection it may find another pod. HTTP/2 has no such header.
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The JWT of `Authorization: Bearer`; other schemes are somebody else's.
///
/// # Errors
///
/// When it is there twice, or is no text.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Unauthorized> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Unauthorized::Twice);
    }
    let value = value.to_str().map_err(|_| Unauthorized::Malformed)?;
    let (scheme, jwt) = value.split_once(' ').unwrap_or((value, ""));
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| jwt.trim()))
}

/// The value of a cookie; a cleared one is none. HTTP/2 may send a header for each cookie.
///
/// A sibling domain can plant a second cookie of the name, and which of the two comes first is not
/// ours to trust: different values are refused.
///
/// # Errors
///
/// When there are several that differ, or it is no text.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Unauthorized> {
    let mut found = None;
    let pairs =
        headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    for pair in pairs {
        let Some(at) = pair.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        if key != name.as_bytes() || value.is_empty() {
            continue;
        }
        let value = std::str::from_utf8(value).map_err(|_| Unauthorized::Malformed)?;
        if found.is_some_and(|other| other != value) {
            return Err(Unauthorized::Twice);
        }
        found = Some(value);
    }
    Ok(found)
}

/// A tenant header is never a source of identity, but a client that sends one means it.
fn check_tenant(identity: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
    let tenant = identity.tenant.decode().unwrap_or_default();
    if headers.get_all("tenant").iter().any(|named| named.as_bytes() != tenant.as_bytes()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "The tenant header differs from the credential."));
    }
    Ok(())
}

/// Whether the page that made the request is of this host, or of an allowed origin.
#[must_use]
pub fn is_own_page(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        // The user's own tab, or a page that the browser does not call foreign.
        (None, _) => headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none"),
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| {
            allowed.iter().any(|one| one == origin) || is_own_origin(origin, headers, uri)
        }),
        (Some(_), Some(_)) => false,
    }
}

/// Whether an origin is that of the request, whose scheme a proxy in front may have changed.
fn is_own_origin(origin: &str, headers: &HeaderMap, uri: &Uri) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let default = match origin.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return false,
    };
    let host = || -> Option<Authority> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?.to_str().ok()?.parse().ok();
        host.filter(|_| hosts.next().is_none())
    };
    // HTTP/2 has the host as `:authority`.
    let own = uri.authority().cloned().or_else(host);
    own.zip(origin.authority()).is_some_and(|(own, origin)| {
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        own.host().eq_ignore_ascii_case(origin.host()) && port(&own) == port(origin)
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    fn is_own_page(request: &Request, allowed: &[String]) -> bool {
        super::is_own_page(request.headers(), request.uri(), allowed)
    }

    #[test]
    fn a_page_is_ours_by_its_host_or_by_an_exact_entry() {
        let allowed = ["https://app.example.com".to_owned()];
        let own = |host: &str, origin: &str| {
            is_own_page(&request("/", &[("host", host), ("origin", origin)]), &allowed)
        };
        for (host, origin) in [
            ("gw", "https://gw"),
            ("gw", "http://gw"),
            ("gw:443", "https://gw"),
            ("gw", "http://gw:80"),
            ("GW:8080", "http://gw:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("gw", "https://app.example.com"),
        ] {
            assert!(own(host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("gw", "null"),
            ("gw", ""),
            ("gw", "gw"),
            ("gw", "https://gw:8443"),
            ("gw:8080", "http://gw"),
            ("gw", "https://gw.evil.example"),
            ("gw", "https://evil.example/gw"),
            ("gw", "https://gw@evil.example"),
            ("gw", "file://gw"),
            ("gw", "https://APP.example.com"),
            ("gw", "http://app.example.com"),
            ("gw", "https://app.example.com.evil.example"),
            ("gw", "https://app.example.com, https://gw"),
        ] {
            assert!(!own(host, origin), "{host} {origin}");
        }
        assert!(is_own_page(&request("http://gw/", &[("origin", "https://gw")]), &[]), ":authority");
        assert!(!is_own_page(&request("/", &[("origin", "https://gw")]), &[]), "no host");
        let twice = [("host", "gw"), ("origin", "https://gw"), ("origin", "https://evil.example")];
        assert!(!is_own_page(&request("/", &twice), &[]));
    }

    #[test]
    fn without_an_origin_the_browser_says_whose_page_it_is() {
        let own = |site| is_own_page(&request("/", &[("host", "gw"), ("sec-fetch-site", site)]), &[]);
        assert!(own("same-origin") && own("none"));
        assert!(!own("cross-site") && !own("same-site") && !own("?"));
        assert!(is_own_page(&request("/", &[("host", "gw")]), &[]));
    }

    #[test]
    fn one_cookie_counts_and_two_that_differ_are_refused() {
        let read = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let request = request("/", &lines);
            cookie(request.headers(), "jwt").map(|found| found.map(str::to_owned))
        };
        let found = |value: &str| Ok(Some(value.to_owned()));
        assert_eq!(read(&["a=b; jwt=x.y.z; c"]), found("x.y.z"));
        assert_eq!(read(&["a=b", "jwt=x=="]), found("x=="));
        assert_eq!(read(&["jwt=x;jwt=x", "jwt=x"]), found("x"));
        assert_eq!(read(&["jwt=; jwt=x"]), found("x"));
        assert_eq!(read(&["jwt=x; jwt=y"]), Err(Unauthorized::Twice));
        assert_eq!(read(&["jwt=x", "jwt=y"]), Err(Unauthorized::Twice));
        for none in [&["xjwt=x; JWT=x; jwt"][..], &["jwt="], &["a=jwt=x"], &[]] {
            assert_eq!(read(none), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn other_schemes_are_somebody_elses() {
        let read = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("authorization", *line)).collect();
            let request = request("/", &lines);
            authorization(request.headers()).map(|found| found.map(str::to_owned))
        };
        assert_eq!(read(&["bearer  a.b.c "]), Ok(Some("a.b.c".into())));
        assert_eq!(read(&["Bearer"]), Ok(Some(String::new())));
        assert_eq!(read(&["Basic YTpi"]), Ok(None));
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(Unauthorized::Twice));
    }
}
