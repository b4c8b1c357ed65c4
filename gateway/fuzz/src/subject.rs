//! Subjects, ids, topics and lists of receivers. One input is all of them: its first line a subject, an
//! id and a list, its first two lines patterns.

use sse_gateway::subject::{
    self, ConnectionId, MAX_TOKEN, Pattern, Target, Token, check_topics, check_users, listed, topic,
};

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let second = lines.next().unwrap_or_default();
    target(first);
    id(first, second);
    list(first);
    patterns(first, second);
    if let Ok(id) = first.parse::<ConnectionId>() {
        assert_eq!(id.to_string(), first);
    }
}

/// What stands in a subject: no level, no wildcard, nothing that NATS splits at.
fn assert_token(token: &str) {
    assert!((1..=MAX_TOKEN).contains(&token.len()));
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_%".contains(&b)), "{token:?}");
    if let Some(id) = subject::token::decode(token) {
        assert_eq!(Token::encode(&id).expect("it was short enough").as_str(), token, "another spelling");
    }
}

fn target(text: &str) {
    let Ok(target) = subject::target("sse", text) else { return };
    let tenant = match target {
        Target::Platform => return assert_eq!(text, "sse._platform.all"),
        Target::System => return assert!(text == "sse._sys" || text.starts_with("sse._sys.")),
        Target::User { tenant, .. }
        | Target::Users { tenant }
        | Target::Topic { tenant, .. }
        | Target::Topics { tenant }
        | Target::Tenant { tenant }
        | Target::Connection { tenant, .. } => tenant,
    };
    assert_token(tenant);
    assert!(!tenant.starts_with('_'));
    let rest = match target {
        Target::User { user, .. } => {
            assert_token(user);
            format!("user.{user}")
        }
        Target::Topic { topic, .. } => {
            topic.split('.').for_each(assert_token);
            format!("topic.{topic}")
        }
        Target::Connection { id, .. } => format!("conn.{id}"),
        Target::Users { .. } => "users".into(),
        Target::Topics { .. } => "topics".into(),
        _ => "all".into(),
    };
    assert_eq!(format!("sse.{tenant}.{rest}"), text, "a subject has one reading");
}

/// A user of a tenant is reached by the subject made of both ids, and no other is.
fn id(tenant: &str, user: &str) {
    let (Ok(tenant), Ok(user)) = (Token::encode(tenant), Token::encode(user)) else { return };
    assert_eq!(tenant.decode().and_then(|id| Token::encode(&id).ok()), Some(tenant.clone()));
    let subject = format!("sse.{tenant}.user.{user}");
    let target = subject::target("sse", &subject);
    if tenant.as_str().starts_with('_') {
        assert!(!matches!(target, Ok(Target::User { .. })), "{subject}");
    } else {
        assert_eq!(target, Ok(Target::User { tenant: tenant.as_str(), user: user.as_str() }));
    }
}

fn list(text: &str) {
    if check_users(text).is_ok() {
        listed(text).for_each(assert_token);
        assert_eq!(check_users(&listed(text).collect::<Vec<_>>().join(",")), Ok(()));
    }
    if check_topics(text).is_ok() {
        listed(text).for_each(|topic| topic.split('.').for_each(assert_token));
    }
}

fn patterns(one: &str, other: &str) {
    let Ok(pattern) = Pattern::parse(one) else { return };
    for (at, level) in pattern.levels().enumerate() {
        match level {
            "*" => {}
            ">" => assert_eq!(at + 1, pattern.levels().count()),
            level => assert_token(level),
        }
    }
    let json = serde_json::to_string(&pattern).expect("a string");
    assert_eq!(serde_json::from_str::<Pattern>(&json).ok().as_ref(), Some(&pattern));
    assert!(pattern.covers(&pattern));
    if pattern.is_exact() {
        assert_eq!(topic::check(pattern.as_str()), Ok(()), "nothing could be published to it");
        assert!(pattern.matches(pattern.as_str()));
    }
    let Ok(wider) = Pattern::parse(other) else { return };
    if pattern.is_exact() {
        assert_eq!(wider.covers(&pattern), wider.matches(pattern.as_str()));
    }
    if wider.covers(&pattern) && pattern.covers(&wider) {
        assert_eq!(wider, pattern, "two spellings of one grant");
    }
}
