//! Everyone hears what is theirs and nothing else, whatever the names look like.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sse_tests::client::{Client, Stream};
use sse_tests::jwt::jwt_of_anything;
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;

/// The encoding of an id, by the letter of the contract, apart from the gateway's own.
fn encoded(id: &str) -> String {
    let plain = |b: u8| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn client(gateway: &Gateway, tenant: &str, user: &str) -> Client {
    Client { gateway: gateway.address.into(), base: "/api/v1/sse".into(), jwt: jwt_of_anything(tenant, user) }
}

/// Who hears what: a stream has exactly two subjects and a place in its tenant's lists, and nothing
/// that only looks like them.
fn hears(tenant: &str, user: &str, subject: &str, list: &[String]) -> bool {
    let (tenant, user) = (encoded(tenant), encoded(user));
    subject == format!("sse.{tenant}.all")
        || subject == format!("sse.{tenant}.user.{user}")
        || subject == format!("sse.{tenant}.users") && list.contains(&user)
}

#[tokio::test]
async fn a_wildcard_in_a_name_is_just_a_character() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let names = ["*", ">", "a.b", "%2A", "%3E", "*.*", "a", "all", "user"];
    let mut streams = Vec::new();
    for name in names {
        streams.push((name, "acme", client(&gateway, "acme", name).open_bearer("", &[]).await?));
        streams.push(("a", name, client(&gateway, name, "a").open("").await?));
    }
    let publisher = nats.publisher().await?;
    for name in names {
        publisher.publish(&format!("sse.acme.user.{}", encoded(name)), &format!("acme {name}")).await?;
        publisher.publish(&format!("sse.{}.user.a", encoded(name)), &format!("{name} a")).await?;
    }
    for (user, tenant, stream) in &mut streams {
        publisher.publish(&format!("sse.{}.user.{}", encoded(tenant), encoded(user)), "end").await?;
        assert_eq!(stream.until("end").await?, [format!("{tenant} {user}"), "end".into()]);
    }
    Ok(())
}

/// Parts of names that look like something else.
const PARTS: [&str; 28] = [
    "a", "A", "b", "ab", "ä", "*", ">", ".", "%", "%2A", "%2a", "%3E", "2A", "%61", "%252A", " ", "_", "-",
    "all", "user", "conn", "topic", "/", "\\", "\"", "\r\n", "\0", "∀",
];

fn name(random: &mut StdRng) -> String {
    (0..random.random_range(1..=3)).map(|_| PARTS[random.random_range(0..PARTS.len())]).collect()
}

/// Spellings of a name in a subject, most of them wrong.
fn spelled(random: &mut StdRng, name: &str) -> String {
    let right = encoded(name);
    match random.random_range(0..8) {
        0 => right.to_lowercase(),
        1 => right.to_uppercase(),
        2 => name.bytes().fold(String::new(), |all, b| format!("{all}%{b:02X}")),
        3 => right.replace("%2A", "*").replace("%3E", ">"),
        4 => format!("{right}.{right}"),
        5 => format!("{right}%"),
        _ => right,
    }
}

fn subject(random: &mut StdRng, people: &[(String, String)]) -> String {
    let one = |random: &mut StdRng| people[random.random_range(0..people.len())].clone();
    let (tenant, user) = one(random);
    // Often the user of another tenant.
    let user = if random.random_bool(0.3) { one(random).1 } else { user };
    match random.random_range(0..12) {
        0..5 => format!("sse.{}.user.{}", encoded(&tenant), encoded(&user)),
        5 => format!("sse.{}.all", encoded(&tenant)),
        6 => format!("sse.{}.all", spelled(random, &tenant)),
        7 => format!("sse.{}.user.{}", spelled(random, &tenant), encoded(&user)),
        8 => format!("sse.{}.user.{}", encoded(&tenant), spelled(random, &user)),
        9 | 10 => format!("sse.{}.users", encoded(&tenant)),
        _ => {
            let odd = [
                "sse.*.all",
                "sse.>",
                "sse.*.user.*",
                "sse._platform.all",
                "sse._sys.x",
                "sse.all",
                "sse.user.a",
                "sse.a.topic.all",
                "sse.a.conn.all",
            ];
            odd[random.random_range(0..odd.len())].into()
        }
    }
}

/// A person who listens, and what they must hear.
struct Listener {
    tenant: String,
    user: String,
    client: Client,
    stream: Stream,
    /// Where the stream began.
    from: String,
    due: Vec<String>,
}

async fn listener(gateway: &Gateway, tenant: &str, user: &str, by_token: bool) -> Result<Listener> {
    let client = client(gateway, tenant, user);
    let mut stream = if by_token { client.open("").await? } else { client.open_bearer("", &[]).await? };
    let from = stream.position().await?;
    Ok(Listener { tenant: tenant.into(), user: user.into(), client, stream, from, due: Vec::new() })
}

async fn round(gateway: &Gateway, publisher: &Publisher, random: &mut StdRng) -> Result<()> {
    let mut people = Vec::new();
    while people.len() < 24 {
        let (tenant, user) = (name(random), name(random));
        if !tenant.starts_with('_') {
            people.push((tenant, user));
        }
    }
    let mut listeners = Vec::new();
    for (tenant, user) in &people {
        listeners.push(listener(gateway, tenant, user, random.random_bool(0.3)).await?);
    }
    let mut last = HashSet::new();
    for i in 0..400 {
        let (subject, data) = (subject(random, &people), format!("{i} {}", random.random::<u32>()));
        let list: Vec<String> =
            (0..3).map(|_| encoded(&people[random.random_range(0..people.len())].1)).collect();
        let mut headers = HeaderMap::new();
        if subject.rsplit('.').next() == Some("users") {
            headers.insert("Sse-Users", list.join(","));
        }
        // In one order, without waiting for each: what the server does not take is heard by nobody.
        publisher.client.publish_with_headers(subject.clone(), headers, data.clone().into()).await?;
        for listener in &mut listeners {
            if hears(&listener.tenant, &listener.user, &subject, &list) {
                listener.due.push(data.clone());
            }
        }
    }
    publisher.client.flush().await?;
    for listener in &mut listeners {
        let subject = format!("sse.{}.all", encoded(&listener.tenant));
        // Once for each tenant.
        if last.insert(subject.clone()) {
            publisher.publish(&subject, "end").await?;
        }
        listener.due.push("end".into());
    }
    for listener in &mut listeners {
        let who = format!("{:?} of {:?}", listener.user, listener.tenant);
        assert_eq!(listener.stream.until("end").await?, listener.due, "live: {who}");
        let query = format!("?lastEventId={}", listener.from);
        let mut again = listener.client.open_bearer(&query, &[]).await?;
        assert_eq!(again.until("end").await?, listener.due, "replayed: {who}");
    }
    Ok(())
}

#[tokio::test]
async fn everyone_hears_what_is_theirs_and_nothing_else() -> Result<()> {
    let seed = std::env::var("SSE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("again with SSE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"maxConnectionsPerUser": 200}})).await?;
    let publisher = nats.publisher().await?;
    for i in 0..4 {
        round(&gateway, &publisher, &mut random)
            .await
            .with_context(|| format!("round {i} of seed {seed}"))?;
    }
    Ok(())
}
