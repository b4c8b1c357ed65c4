//! The configuration: what is accepted can be used, and says the same when it is written again.

use std::path::Path;

use sse_gateway::auth::jwt::Verifier;
use sse_gateway::config::{Config, ConfigError, GatewayName};
use sse_gateway::connection::limits::Limits;
use sse_gateway::http::topics::Topics;
use sse_gateway::subject::{Pattern, Token};
use sse_gateway::wire::Field;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let name = GatewayName { namespace: "default".into(), name: "gateway".into() };
    Config::parse(text, Path::new("."), name, 0)
}

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match parse(text) {
        Ok(config) => config,
        Err(ConfigError::Fields(errors)) => {
            assert!(!errors.is_empty());
            return assert!(errors.iter().all(|e| !e.field.is_empty() && !e.message.is_empty()));
        }
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = serde_json::to_string(&config.spec).expect("it was read");
    let again = parse(&written).expect("what was accepted is accepted again");
    assert_eq!(again.spec, config.spec, "{written}");
    assert!(again.unknown.is_empty(), "{:?}", again.unknown);
    use_it(&config);
}

/// What the gateway makes of a configuration when it starts, and what it counts on later.
fn use_it(config: &Config) {
    let spec = &config.spec;
    let _ = Verifier::new(&spec.auth, Path::new("."));
    let _ = Limits::new(spec.limits.max_connections_per_user, spec.limits.max_connections_per_pod);
    let topics = Topics::new(spec);
    assert!(topics.wanted(None).is_ok_and(|wanted| wanted.is_empty()));
    let base = &spec.endpoints.base_path;
    let _: axum::Router =
        axum::Router::new().route(&format!("{base}/stream"), axum::routing::get(async || ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    assert!(config.stream_name().bytes().chain(config.token_bucket().bytes()).all(plain));
    assert!(Field::new(&spec.stream.default_event_type).is_some());
    assert!(spec.stream.welcome_events.iter().all(|welcome| Field::new(&welcome.event).is_some()));
    let patterns = spec.topics.public.iter().chain(&spec.topics.auto_join);
    patterns.for_each(|pattern| assert!(Pattern::parse(pattern).is_ok()));
    let tenant = &spec.auth.default_tenant;
    assert!(tenant.is_empty() || Token::encode(tenant).is_ok(), "no credential can have this tenant");
    assert!(spec.stream.heartbeat_interval_seconds > 0 && spec.limits.write_timeout_seconds > 0);
}
