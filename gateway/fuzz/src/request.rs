//! The head of a request as anybody may send it: which credential counts, whose page it is, what a preflight asks for, and
//! the query. The first line is the target, the others are headers, `name: value`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use sse_gateway::auth::Unauthorized;
use sse_gateway::config::{Config, GatewayName};
use sse_gateway::http::cors;
use sse_gateway::http::credential::{self, Credential};
use sse_gateway::http::events::named;
use sse_gateway::http::stream::Parameters;
use sse_gateway::http::topics::Topics;
use sse_gateway::subject::Pattern;
use url::Url;

const SPEC: &str = r#"
nats: {url: "nats://n:4222"}
auth:
  issuers: [{issuer: i, algorithms: [HS256], keySecretRef: {name: k, key: k}}]
  modes: [Token, Bearer, Cookie]
  cookie: {name: session}
cors: {allowedOrigins: ["https://app.example.com"]}
limits: {maxTopicsPerConnection: 3}
"#;
const ALLOWED: &str = "https://app.example.com";

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let name = GatewayName { namespace: "default".into(), name: "gateway".into() };
    Config::parse(SPEC, Path::new("."), name, 0).expect("a good configuration")
});

/// The headers of these lines; what hyper would not let through is left out.
pub fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(at) = line.iter().position(|b| *b == b':') else { continue };
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), value) {
            headers.append(name, value);
        }
    }
    headers
}

pub fn check(input: &[u8]) {
    let mut lines = input.split(|b| *b == b'\n');
    let target = lines.next().unwrap_or_default();
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers(lines);
    let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    *request.method_mut() = if asks { Method::OPTIONS } else { Method::GET };
    bearer(request.headers());
    cookie(request.headers());
    page(&request);
    preflight(&request);
    query(&request);
    let (head, ()) = request.into_parts();
    if let Ok(subject) = named(&head) {
        let by_header =
            head.headers.get_all("sse-subject").iter().any(|value| value.as_bytes() == subject.as_bytes());
        assert!(by_header || head.uri.query().is_some_and(|query| query.contains("subject")));
    }
}

fn bearer(headers: &HeaderMap) {
    let values: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().collect();
    let expected = match values[..] {
        [] => Ok(None),
        [one] => one.to_str().map_err(|_| Unauthorized::Malformed).map(|text| {
            let (scheme, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
            scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
        }),
        _ => Err(Unauthorized::Twice),
    };
    assert_eq!(credential::authorization(headers), expected);
}

/// All values of the name, however they are spread over headers: one counts, and two are one too many.
fn cookie(headers: &HeaderMap) {
    let all =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b';');
    let value = |pair: &[u8]| {
        let at = pair.iter().position(|b| *b == b'=')?;
        (pair[..at].trim_ascii() == b"session").then(|| pair[at + 1..].trim_ascii().to_vec())
    };
    let values: BTreeSet<_> = all.split(|b| *b == b';').filter_map(value).filter(|v| !v.is_empty()).collect();
    match credential::cookie(headers, "session") {
        Ok(None) => assert!(values.is_empty(), "{values:?}"),
        Ok(Some(one)) => assert_eq!(values, BTreeSet::from([one.as_bytes().to_vec()])),
        Err(Unauthorized::Twice) => assert!(values.len() > 1, "{values:?}"),
        Err(error) => {
            assert_eq!(error, Unauthorized::Malformed);
            assert!(values.iter().any(|value| std::str::from_utf8(value).is_err()), "{values:?}");
        }
    }
}

/// A page is ours only if a browser would say that its origin is, or that it has none.
fn page(request: &Request<()>) {
    let allowed = &CONFIG.spec.cors.allowed_origins;
    let origins: Vec<_> = request.headers().get_all(header::ORIGIN).iter().collect();
    let readable = cors::allowed(request.headers(), allowed);
    assert_eq!(readable.is_some(), matches!(origins[..], [one] if one == ALLOWED));
    if !credential::is_own_page(request.headers(), request.uri(), allowed) {
        return assert!(readable.is_none(), "a page may read what it may not ask for");
    }
    match origins[..] {
        [] => {
            let site = request.headers().get("sec-fetch-site");
            assert!(site.is_none_or(|site| site == "same-origin" || site == "none"));
        }
        [origin] if origin == ALLOWED => {}
        [origin] => {
            let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
            let named = || Some(request.headers().get(header::HOST)?.to_str().ok()?.to_owned());
            let origin = origin.to_str().expect("it was understood");
            let host = host.or_else(named).expect("without a host nothing is its own");
            // Which ports are the default ones is a matter of the scheme; a proxy may have changed it.
            let (Ok(origin), Some((scheme, _))) = (Url::parse(origin), origin.split_once(':')) else {
                return;
            };
            let Ok(own) = Url::parse(&format!("{scheme}://{host}")) else { return };
            assert_eq!(origin.host(), own.host());
            assert_eq!(origin.port_or_known_default(), own.port_or_known_default());
        }
        _ => assert!(origins.is_empty(), "of several origins none counts"),
    }
}

fn preflight(request: &Request<()>) {
    let Some(wanted) = cors::wanted(request) else { return };
    assert_eq!(request.method(), Method::OPTIONS);
    assert!(HeaderValue::try_from(&wanted).is_ok(), "{wanted:?}");
    for name in wanted.split(", ").filter(|name| !name.is_empty()) {
        assert!(!["cookie", "host", "origin", "connection"].contains(&name));
        assert_eq!(name, name.to_ascii_lowercase());
    }
}

/// Whatever opens a stream by a cookie was seen to be a request by cookie, which is refused to foreign pages.
fn query(request: &Request<()>) {
    let Ok(Query(parameters)) = Query::<Parameters>::try_from_uri(request.uri()) else { return };
    let auth = &CONFIG.spec.auth;
    let presented = credential::presented(auth, request.headers(), parameters.token.as_deref());
    let by_cookie = matches!(presented, Ok(Credential::Cookie(_)));
    assert_eq!(by_cookie && request.method() == Method::GET, credential::is_by_cookie(auth, request));
    match presented {
        Ok(Credential::Token(one)) => assert_eq!(parameters.token.as_deref(), Some(one)),
        Ok(_) => assert_eq!(parameters.token, None, "what is in the query is meant"),
        Err(_) => {}
    }
    let topics = Topics::new(&CONFIG.spec);
    let Ok(wanted) = topics.wanted(parameters.topics.as_deref()) else { return };
    assert!(wanted.len() <= 3);
    for topic in &wanted {
        let text = topic.levels().map(|level| sse_gateway::subject::token::decode(level).expect("text"));
        let again = Pattern::parse(&text.collect::<Vec<_>>().join("."));
        assert_eq!(again.as_ref().ok(), Some(topic));
    }
}
