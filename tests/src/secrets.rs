//! What nothing may tell: every credential that the tests make, are given or hand out, and the id of every user.
//! What gateways and operators emit is searched for all of them, whichever test it is of.
//!
//! A credential is found anywhere, even within a word. The id of a user is found where it stands as a word of its
//! own; so that nothing else is taken for it, **a test names its users distinctively**: with at least three
//! characters, and not by a word that a log may have for another reason (`late`, `slow`, `user`). Only ids that are
//! hostile by themselves come in by [`crate::jwt::jwt_of_anything`], and are not looked for.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{LazyLock, PoisonError, RwLock};

use anyhow::{Result, ensure};
use serde_json::Value;

/// Bytes by which a secret is looked up: all are longer.
const HEAD: usize = 3;
/// What is shorter is no credential.
const SHORTEST: usize = 6;
/// A test that fails tells no more of them.
const MOST_TOLD: usize = 20;

static KNOWN: LazyLock<RwLock<Known>> =
    LazyLock::new(|| RwLock::new(Known { by_head: HashMap::new(), begin: vec![false; 1 << 16] }));

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Credential,
    User,
}

/// Everything to look for.
struct Known {
    by_head: HashMap<[u8; HEAD], BTreeSet<(String, Kind)>>,
    /// Whether one begins with these two bytes: logs are long, and this is quick.
    begin: Vec<bool>,
}

fn beginning(first: u8, second: u8) -> usize {
    usize::from(u16::from_be_bytes([first, second]))
}

impl Known {
    fn add(&mut self, secret: &str, kind: Kind) {
        let head = secret.as_bytes().first_chunk().expect("a secret that is long enough");
        self.begin[beginning(head[0], head[1])] = true;
        self.by_head.entry(*head).or_default().insert((secret.to_owned(), kind));
    }

    /// What of it stands in a text, with what stands around it.
    fn within(&self, text: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, head) in text.windows(HEAD).enumerate() {
            if !self.begin[beginning(head[0], head[1])] {
                continue;
            }
            let Some(same) = self.by_head.get(head) else { continue };
            for (secret, kind) in same {
                let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                let end = at + secret.len();
                let whole = || !word(text[..at].last()) && !word(text.get(end));
                if text[at..].starts_with(secret.as_bytes()) && (*kind == Kind::Credential || whole()) {
                    let around = &text[at.saturating_sub(160)..text.len().min(end + 80)];
                    found.insert(format!("{kind:?} {secret:?} in {}", String::from_utf8_lossy(around)));
                }
            }
        }
        found
    }
}

/// A credential: a token, a key, a password.
pub fn credential(secret: &str) {
    assert!(secret.len() >= SHORTEST, "{secret:?} is too short to be looked for");
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).add(secret, Kind::Credential);
}

/// A JWT: what it says and its signature, each by itself. What its header says is no secret.
pub fn jwt(jwt: &str) {
    jwt.split('.').skip(1).filter(|part| part.len() >= SHORTEST).for_each(credential);
}

/// The id of a user, as it is, and as JSON and a subject spell it. Nobody's is empty.
pub fn user(id: &str) {
    if id.is_empty() {
        return;
    }
    assert!(id.len() >= HEAD, "{id:?} is too short to be looked for: name the user distinctively");
    let json = Value::from(id).to_string();
    let in_subject = id.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'-' | b'_' => all.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => all.push(byte.into()),
            byte => write!(all, "%{byte:02X}").expect("a String takes it"),
        }
        all
    });
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for spelled in [id, &json[1..json.len() - 1], &in_subject] {
        known.add(spelled, Kind::User);
    }
}

/// The content of a file of a Secret: its lines, the JWT in them, and the values of `name=value`. Public keys and
/// certificates are no secrets.
pub fn file(content: &str) {
    if content.contains("-----BEGIN CERTIFICATE") || content.contains("-----BEGIN PUBLIC KEY") {
        return;
    }
    let lines = content.lines().map(str::trim);
    for line in lines.filter(|line| line.len() >= SHORTEST && !line.starts_with("---")) {
        if line.starts_with("eyJ") {
            jwt(line);
        } else {
            // After `Bearer`, or the like.
            let value = line.split_once('=').and_then(|(_, value)| value.trim().rsplit(' ').next());
            credential(value.filter(|value| value.len() >= SHORTEST).unwrap_or(line));
        }
    }
}

/// Searches texts, each with what it is.
///
/// # Errors
///
/// When one of them tells a secret.
pub fn search<'a>(texts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let found = texts
        .into_iter()
        .flat_map(|(what, text)| known.within(text).into_iter().map(move |found| format!("{what}: {found}")));
    let found: Vec<_> = found.take(MOST_TOLD).collect();
    ensure!(found.is_empty(), "secrets are told:\n{}", found.join("\n"));
    Ok(())
}

/// The same, where something is dropped: it is a panic, but of a test that fails already.
pub fn assert_none<'a>(texts: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    match search(texts) {
        Err(error) if std::thread::panicking() => eprintln!("{error}"),
        told => told.expect("no secret in what is emitted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> bool {
        !KNOWN.read().expect("no panic").within(text.as_bytes()).is_empty()
    }

    #[test]
    fn a_credential_is_found_wherever_it_stands() {
        credential("0123456789abcdef0123456789abcdef");
        assert!(told(r#"{"message":"GET /stream?token=0123456789abcdef0123456789abcdef"}"#));
        assert!(told(r"line\n0123456789abcdef0123456789abcdefmore"));
        assert!(!told("0123456789abcdef0123456789abcde"));
        let jwt = crate::jwt::jwt("acme", "somebody-in-secrets");
        for part in jwt.split('.').skip(1) {
            assert!(told(&format!("a JWT: {part}")), "{part}");
        }
        assert!(told(&jwt) && !told(jwt.split('.').next().expect("a header")));
    }

    #[test]
    fn the_content_of_a_secret_is_found_by_its_parts() {
        file("Authorization=Bearer of-the-collector\nx-scope = everything-else\n");
        file(
            "-----BEGIN NATS USER JWT-----\neyJhbGciOi.eyJqdGkiOi.signature\n------END NATS USER JWT------\n\nSUASEED\n",
        );
        for part in ["of-the-collector", "everything-else", "eyJqdGkiOi", "signature", "SUASEED"] {
            assert!(told(&format!("it is {part}")), "{part}");
        }
        assert!(!told("Authorization, Bearer, x-scope, BEGIN NATS USER JWT, eyJhbGciOi"));
        file("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n");
        assert!(!told("MCowBQYDK2VwAyEA"));
    }

    #[test]
    fn a_user_is_found_as_a_word_in_every_spelling() {
        user("zoë@example.com");
        user("zed");
        for text in
            ["zoë@example.com", "sse.acme.user.zo%C3%AB%40example%2Ecom", r#"{"user":"zed"}"#, "user=zed"]
        {
            assert!(told(text), "{text}");
        }
        assert!(!told("zedoary, amazed, 9zed9"));
    }

    #[test]
    #[should_panic(expected = "secrets are told")]
    fn a_secret_that_is_told_fails_the_test() {
        user("zelda");
        assert_none([("the log", &b"user zelda came"[..])]);
    }
}
