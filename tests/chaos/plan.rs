//! What the seed decides before anything runs: who listens to what, and what each event is.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Events of a run.
pub const EVENTS: usize = 50_000;
/// The kinds of events, and how many in a hundred are of each.
const KINDS: [(Kind, u32); 5] =
    [(Kind::User, 40), (Kind::Users, 20), (Kind::Topic, 15), (Kind::Topics, 15), (Kind::Tenant, 10)];

/// The same users and topics are in each: what is one tenant's is not another's.
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const USERS: [&str; 10] =
    ["alice", "bob@example.com", "carol", "dave", "eve/1", "frank", "grace", "heidi", "ivan", "judy%40x"];
const TOPICS: [&str; 8] =
    ["news", "orders", "orders.eu", "orders.eu.north", "orders.us", "rates", "rates.chf", "weather"];
/// What clients subscribe to: names, and patterns that overlap them.
const WANTED: [&str; 8] =
    ["news", "orders", "orders.eu", "orders.*", "orders.>", "rates.chf", "*", "weather"];
const LISTENERS_OF_A_USER: usize = 2;
const MOST_TOPICS: usize = 4;

/// Whom an event reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    User,
    Users,
    Topic,
    Topics,
    Tenant,
}

/// An event that will be published.
pub struct Planned {
    pub kind: Kind,
    pub subject: String,
    pub headers: Vec<(&'static str, String)>,
    /// The name that it has at the client.
    pub name: String,
    pub payload: String,
}

/// A client's identity, and what it subscribes to.
#[derive(Clone, Debug)]
pub struct Listener {
    pub tenant: &'static str,
    pub user: &'static str,
    pub topics: Vec<&'static str>,
}

/// Where an event is in the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    #[default]
    GoOn,
    ComeBack,
    Done,
}

/// Everything that is decided beforehand.
pub struct Plan {
    pub seed: u64,
    /// The last ones, two a tenant, are the ends: a client comes back after the first to the second.
    pub events: Vec<Planned>,
    pub listeners: Vec<Listener>,
}

/// A source of decisions of its own for each who decides: none disturbs another's.
pub fn decisions(seed: u64, whose: &str) -> StdRng {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    StdRng::seed_from_u64(whose.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = decisions(seed, "plan");
        let mut events: Vec<Planned> = (0..EVENTS).map(|n| event(&mut random, n)).collect();
        let ends = TENANTS.iter().cycle().take(2 * TENANTS.len());
        events.extend(ends.enumerate().map(|(index, tenant)| end(tenant, EVENTS + index)));
        let mut listeners = Vec::new();
        for tenant in TENANTS {
            for user in USERS {
                for _ in 0..LISTENERS_OF_A_USER {
                    let count = random.random_range(0..=MOST_TOPICS);
                    let topics = WANTED.sample(&mut random, count).copied().collect();
                    listeners.push(Listener { tenant, user, topics });
                }
            }
        }
        Self { seed, events, listeners }
    }

    /// What a client does after an event.
    pub const fn after(n: usize) -> After {
        match n {
            ..EVENTS => After::GoOn,
            n if n < EVENTS + TENANTS.len() => After::ComeBack,
            _ => After::Done,
        }
    }
}

fn event(random: &mut StdRng, n: usize) -> Planned {
    let kind = KINDS.choose_weighted(random, |(_, weight)| *weight).expect("kinds").0;
    let tenant = *TENANTS.choose(random).expect("tenants");
    let some = |random: &mut StdRng, all: &[&'static str]| {
        // With repetition: who is named twice is reached once.
        let count = random.random_range(1..=4);
        (0..count).map(|_| *all.choose(random).expect("some")).collect::<Vec<_>>()
    };
    let mut headers = vec![("Nats-Msg-Id", format!("{tenant}:{n}"))];
    let rest = match kind {
        Kind::User => format!("user.{}", encode(USERS.choose(random).expect("users"))),
        Kind::Topic => format!("topic.{}", TOPICS.choose(random).expect("topics")),
        Kind::Tenant => "all".into(),
        Kind::Users => {
            let users = some(random, &USERS).into_iter().map(encode).collect::<Vec<_>>();
            headers.push(("Sse-Users", users.join(",")));
            "users".into()
        }
        Kind::Topics => {
            headers.push(("Sse-Topics", some(random, &TOPICS).join(",")));
            "topics".into()
        }
    };
    let name = if random.random_bool(0.3) { "order.shipped" } else { "message" };
    if name != "message" {
        headers.push(("Sse-Event", name.into()));
    }
    let subject = format!("sse.{tenant}.{rest}");
    Planned { kind, subject, headers, name: name.into(), payload: payload(random, n) }
}

/// Mostly small, sometimes of many lines; its first word is the event's number.
fn payload(random: &mut StdRng, n: usize) -> String {
    let mut payload = format!("{n} ");
    let most = if random.random_bool(0.1) { 3000 } else { 300 };
    for i in 0..random.random_range(0..most) {
        payload.push(if i % 60 == 59 { '\n' } else { 'é' });
    }
    payload.push('.');
    payload
}

fn end(tenant: &'static str, n: usize) -> Planned {
    Planned {
        kind: Kind::Tenant,
        subject: format!("sse.{tenant}.all"),
        headers: vec![("Nats-Msg-Id", format!("{tenant}:{n}"))],
        name: "message".into(),
        payload: format!("{n} the end"),
    }
}

/// A token of a subject, by the letter of the contract.
fn encode(text: &str) -> String {
    let mut token = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte.into()),
            byte => write!(token, "%{byte:02X}").expect("a String takes it"),
        }
    }
    token
}
