//! Issuers that publish their keys: cached, rotated, flooded, away, and answering nonsense.

use std::time::Duration;

use anyhow::{Result, ensure};
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use sse_tests::client::Answer;
use sse_tests::eventually;
use sse_tests::issuer::{Issuer, Reply};
use sse_tests::jwt::{IssuerKey, jwt, now, signed};
use sse_tests::process::{Gateway, Nats};

const NAME: &str = "https://id.example.com/";

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "alice", "tenant": "acme", "exp": now() + 600})
}

/// An entry of `auth.issuers`.
fn entry(name: &str, issuer: &Issuer) -> Value {
    json!({"issuer": name, "jwksUri": issuer.uri(), "algorithms": ["RS256", "ES256", "EdDSA"]})
}

/// The issuer of the other tests, whose key is in a secret: it works whatever happens to the others.
fn steady() -> Value {
    json!({"issuer": sse_tests::jwt::ISSUER, "algorithms": ["HS256"], "keySecretRef": {"name": "jwt", "key": "key"}})
}

async fn gateway(nats: &Nats, issuers: &[Value]) -> Result<Gateway> {
    Gateway::start(nats, json!({"auth": {"issuers": issuers}})).await
}

async fn ask(gateway: &Gateway, jwt: String) -> Result<Answer> {
    let mut client = gateway.client("acme", "alice");
    client.jwt = jwt;
    client.ask_token().await
}

async fn status(gateway: &Gateway, jwt: String) -> Result<u16> {
    Ok(ask(gateway, jwt).await?.status.as_u16())
}

async fn until_status(what: &str, gateway: &Gateway, jwt: &str, expected: u16) -> Result<()> {
    eventually(what, Duration::from_secs(20), || async {
        let status = status(gateway, jwt.to_owned()).await?;
        ensure!(status == expected, "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_keys_are_fetched_once_and_serve_every_algorithm() -> Result<()> {
    let nats = Nats::start().await?;
    let keys = [IssuerKey::rsa("r"), IssuerKey::ec("e"), IssuerKey::ed("d")];
    let issuer = Issuer::start(Reply::keys(&[&keys[0], &keys[1], &keys[2]])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    for _ in 0..20 {
        for key in &keys {
            assert_eq!(status(&gateway, key.sign(&claims(NAME))).await?, 200, "{:?}", key.algorithm);
        }
    }
    assert_eq!(issuer.fetches(), 1);
    // Without a key id the key is found where only one fits.
    for key in &keys {
        let header = Header::new(key.algorithm);
        assert_eq!(status(&gateway, key.sign_with(&header, &claims(NAME))).await?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_key_id_means_nothing_beyond_its_issuer() -> Result<()> {
    let nats = Nats::start().await?;
    let (a, b) = (IssuerKey::ec("same"), IssuerKey::ec("same"));
    let (first, second) =
        (Issuer::start(Reply::keys(&[&a])).await?, Issuer::start(Reply::keys(&[&b])).await?);
    let gateway = gateway(&nats, &[entry("a", &first), entry("b", &second)]).await?;
    until_status("the first issuer", &gateway, &a.sign(&claims("a")), 200).await?;
    until_status("the second issuer", &gateway, &b.sign(&claims("b")), 200).await?;
    for _ in 0..3 {
        assert_eq!(status(&gateway, a.sign(&claims("b"))).await?, 401);
        assert_eq!(status(&gateway, b.sign(&claims("a"))).await?, 401);
        assert_eq!(status(&gateway, a.sign(&claims("a"))).await?, 200);
        assert_eq!(status(&gateway, b.sign(&claims("b"))).await?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_rotation_heals_without_a_restart_and_the_old_key_goes() -> Result<()> {
    let nats = Nats::start().await?;
    let (old, new) = (IssuerKey::ec("old"), IssuerKey::ec("new"));
    let issuer = Issuer::start(Reply::keys(&[&old])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    assert_eq!(status(&gateway, old.sign(&claims(NAME))).await?, 200);
    issuer.answer(Reply::keys(&[&new]));
    until_status("the new key", &gateway, &new.sign(&claims(NAME)), 200).await?;
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(status(&gateway, old.sign(&claims(NAME))).await?, 401);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_is_one_fetch_in_ten_seconds() -> Result<()> {
    let nats = Nats::start().await?;
    let key = IssuerKey::ec("known");
    let issuer = Issuer::start(Reply::keys(&[&key])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    let began = tokio::time::Instant::now();
    let mut asked: u64 = 0;
    while began.elapsed() < Duration::from_secs(11) {
        let flood = (0..20).map(|i| {
            let header = Header { kid: Some(format!("{asked}-{i}")), ..Header::new(Algorithm::ES256) };
            ask(&gateway, key.sign_with(&header, &claims(NAME)))
        });
        for answer in futures::future::try_join_all(flood).await? {
            assert_eq!(answer.status, 401, "{}", answer.body);
            assert!(answer.body.contains("key of the credential"), "{}", answer.body);
        }
        asked += 20;
        assert_eq!(status(&gateway, key.sign(&claims(NAME))).await?, 200);
    }
    // The one at start, and one for each ten seconds that the flood lasted.
    let most = 2 + usize::try_from(began.elapsed().as_secs() / 10)?;
    let fetches = issuer.fetches();
    assert!((2..=most).contains(&fetches), "{fetches} fetches for {asked} tokens");
    Ok(())
}

#[tokio::test]
async fn of_many_that_wait_for_a_key_one_fetches() -> Result<()> {
    let nats = Nats::start().await?;
    let (old, new) = (IssuerKey::ec("old"), IssuerKey::ec("new"));
    let issuer = Issuer::start(Reply::keys(&[&old])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    issuer.answer(Reply { delay: Duration::from_secs(1), ..Reply::keys(&[&new]) });
    // Refused until a fetch may be asked for again; then all wait for the one.
    eventually("forty good tokens", Duration::from_secs(20), || async {
        let all = (0..40).map(|_| status(&gateway, new.sign(&claims(NAME))));
        let statuses = futures::future::try_join_all(all).await?;
        ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        Ok(())
    })
    .await?;
    assert_eq!(issuer.fetches(), 2);
    Ok(())
}

#[tokio::test]
async fn while_the_issuer_is_away_its_keys_stay_and_the_pod_is_ready() -> Result<()> {
    let nats = Nats::start().await?;
    let (old, new) = (IssuerKey::ec("old"), IssuerKey::ec("new"));
    let mut issuer = Issuer::start(Reply::keys(&[&old])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    issuer.stop().await;
    // Nobody can tell whether this one is good: 503, once the gateway has found the issuer away.
    until_status("the outage", &gateway, &new.sign(&claims(NAME)), 503).await?;
    assert_eq!(status(&gateway, old.sign(&claims(NAME))).await?, 200);
    gateway.ready().await?;
    let report = gateway.status().await?;
    assert_eq!(report["problems"], json!([]));
    assert_eq!(report["warnings"][0]["reason"], "IssuerUnreachable");
    let message = report["warnings"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("auth.issuers[0].jwksUri: "), "{message}");
    assert!(message.contains("onnection refused"), "{message}");

    issuer.answer(Reply::keys(&[&old, &new]));
    issuer.restart().await?;
    until_status("the issuer's return", &gateway, &new.sign(&claims(NAME)), 200).await?;
    assert_eq!(gateway.status().await?["warnings"], json!([]));
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_shuts_out_only_its_own_users() -> Result<()> {
    let nats = Nats::start().await?;
    let key = IssuerKey::ec("a");
    let mut issuer = Issuer::start(Reply::keys(&[&key])).await?;
    issuer.stop().await;
    let gateway = gateway(&nats, &[entry(NAME, &issuer), steady()]).await?;
    assert_eq!(status(&gateway, jwt("acme", "alice")).await?, 200);
    let answer = ask(&gateway, key.sign(&claims(NAME))).await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    assert!(!answer.body.contains("127.0.0.1"), "{}", answer.body);
    let problem = gateway.status().await?["problems"][0].clone();
    assert_eq!(problem["reason"], "IssuerUnreachable");
    let message = problem["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("auth.issuers[0].jwksUri: "), "{message}");
    issuer.restart().await?;
    until_status("the issuer", &gateway, &key.sign(&claims(NAME)), 200).await?;
    assert_eq!(gateway.status().await?["problems"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_pod_that_can_verify_nobody_is_not_ready_until_it_can() -> Result<()> {
    let nats = Nats::start().await?;
    let key = IssuerKey::ec("a");
    let mut issuer = Issuer::start(Reply::keys(&[&key])).await?;
    issuer.stop().await;
    let patch = json!({"auth": {"issuers": [entry(NAME, &issuer)]}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", patch)?;
    eventually("the field in /readyz", Duration::from_secs(10), || async {
        let (status, why) = gateway.get("/readyz").await?;
        ensure!(status == 503 && why.contains("auth.issuers[0].jwksUri"), "{status} {why}");
        Ok(())
    })
    .await?;
    issuer.restart().await?;
    gateway.ready().await?;
    assert_eq!(status(&gateway, key.sign(&claims(NAME))).await?, 200);
    Ok(())
}

/// An issuer of a private authority, and one of another.
struct Private {
    key: IssuerKey,
    issuer: Issuer,
    stranger: Issuer,
    /// How the gateway is told of the issuer: with its authority.
    named: Value,
}

impl Private {
    async fn start() -> Result<Self> {
        let key = IssuerKey::ec("a");
        let issuer = Issuer::start_tls(Reply::keys(&[&key])).await?;
        let stranger = Issuer::start_tls(Reply::keys(&[&key])).await?;
        let mut named = entry(NAME, &issuer);
        named["caSecretRef"] = json!({"name": "ca", "key": "ca.crt"});
        Ok(Self { key, issuer, stranger, named })
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_no_other_is() -> Result<()> {
    let nats = Nats::start().await?;
    let Private { key, issuer, stranger, named } = Private::start().await?;
    let gateway =
        gateway_with(&nats, &[named, entry("public", &issuer), steady()], &stranger.authority).await?;
    let refused = async |i: usize| {
        let needle = format!("auth.issuers[{i}].jwksUri: ");
        eventually("a certificate refused", Duration::from_secs(10), || async {
            let problems = gateway.status().await?["problems"].to_string();
            ensure!(problems.contains(&needle) && problems.contains("UnknownIssuer"), "{problems}");
            Ok(())
        })
        .await
    };
    refused(0).await?;
    refused(1).await?;
    assert_eq!(issuer.fetches(), 0);
    gateway.write_secret("ca", "ca.crt", &issuer.authority)?;
    until_status("the right authority", &gateway, &key.sign(&claims(NAME)), 200).await?;
    // The public authorities do not vouch for it, whatever another issuer's setting says.
    assert_eq!(status(&gateway, key.sign(&claims("public"))).await?, 503);
    gateway.ready().await
}

#[tokio::test]
async fn another_authority_is_tried_at_once() -> Result<()> {
    let nats = Nats::start().await?;
    let Private { issuer, stranger, named, .. } = Private::start().await?;
    let gateway = gateway_with(&nats, &[named, steady()], &stranger.authority).await?;
    // The pauses grow: the one after the fourth attempt is of six seconds at least.
    eventually("four attempts", Duration::from_secs(30), || async {
        ensure!(issuer.connections() >= 4, "{}", issuer.connections());
        Ok(())
    })
    .await?;
    gateway.write_secret("ca", "ca.crt", &issuer.authority)?;
    eventually("the keys", Duration::from_secs(5), || async {
        ensure!(issuer.fetches() == 1, "{}", issuer.fetches());
        Ok(())
    })
    .await
}

async fn gateway_with(nats: &Nats, issuers: &[Value], authority: &str) -> Result<Gateway> {
    let gateway = Gateway::start_unready(nats, "tests/gateway", json!({"auth": {"issuers": issuers}}))?;
    gateway.write_secret("ca", "ca.crt", authority)?;
    gateway.ready().await?;
    Ok(gateway)
}

#[tokio::test]
async fn nonsense_from_the_issuer_does_not_hurt() -> Result<()> {
    let nats = Nats::start().await?;
    let (key, other) = (IssuerKey::ec("a"), IssuerKey::ec("b"));
    let elsewhere = Issuer::start(Reply::keys(&[&key])).await?;
    let good = Reply::keys(&[&key]);
    let redirect = Reply { status: 302, headers: vec![("location", elsewhere.uri())], ..good.clone() };
    let mut large = Vec::from(&good.body[..]);
    large.resize(1024 * 1024 + 1, b' ');
    let cases = [
        (redirect, "302"),
        (Reply { status: 500, ..good.clone() }, "500"),
        (Reply::body(large), "longer than"),
        (Reply { endless: true, ..Reply::body(vec![b' '; 4096]) }, "longer than"),
        (Reply { delay: Duration::from_mins(1), ..good.clone() }, "no answer within"),
        (Reply::body("<html>not found</html>"), "not a JSON Web Key Set"),
        (Reply::body(r#"{"keys": []}"#), "no key that can be used"),
        (Reply::body(vec![0xFF; 100]), "not a JSON Web Key Set"),
        (Reply::body("[".repeat(100_000)), "not a JSON Web Key Set"),
    ];
    let mut issuers = Vec::new();
    for (reply, _) in &cases {
        issuers.push(Issuer::start(reply.clone()).await?);
    }
    let mut entries: Vec<_> = (0..).zip(&issuers).map(|(i, issuer)| entry(&format!("{i}"), issuer)).collect();
    entries.push(steady());
    let gateway = gateway(&nats, &entries).await?;
    for (i, (_, cause)) in cases.iter().enumerate() {
        let field = format!("auth.issuers[{i}].jwksUri: ");
        eventually(cause, Duration::from_secs(15), || async {
            let problems = gateway.status().await?["problems"].clone();
            let messages = problems.as_array().into_iter().flatten().filter_map(|p| p["message"].as_str());
            let found = messages.into_iter().find(|message| message.starts_with(&field));
            ensure!(found.is_some_and(|message| message.contains(cause)), "{problems}");
            Ok(())
        })
        .await?;
        assert_eq!(status(&gateway, jwt("acme", "alice")).await?, 200);
    }
    assert_eq!(elsewhere.fetches(), 0, "a redirect was followed");
    // What was nonsense becomes good, and an issuer that had keys keeps them through nonsense.
    for issuer in &issuers {
        issuer.answer(good.clone());
    }
    for i in 0..issuers.len() {
        until_status("the good keys", &gateway, &key.sign(&claims(&i.to_string())), 200).await?;
    }
    issuers[0].answer(Reply::body(r#"{"keys": []}"#));
    until_status("nonsense", &gateway, &other.sign(&claims("0")), 503).await?;
    assert_eq!(status(&gateway, key.sign(&claims("0"))).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_public_key_set_never_verifies_a_symmetric_signature() -> Result<()> {
    let nats = Nats::start().await?;
    let key = IssuerKey::rsa("a");
    let mut set: Value = serde_json::from_slice(&Reply::keys(&[&key]).body)?;
    let octets = json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"});
    set["keys"].as_array_mut().expect("keys").insert(0, octets);
    let issuer = Issuer::start(Reply::body(set.to_string())).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    assert_eq!(status(&gateway, key.sign(&claims(NAME))).await?, 200);
    for secret in ["secretsecretsecretsecret", &key.public] {
        assert_eq!(status(&gateway, signed(&claims(NAME), secret, Algorithm::HS256)).await?, 401);
    }
    Ok(())
}

#[tokio::test]
async fn a_token_can_not_bring_its_own_key() -> Result<()> {
    let nats = Nats::start().await?;
    let (key, own) = (IssuerKey::ec("a"), IssuerKey::ec("a"));
    let issuer = Issuer::start(Reply::keys(&[&key])).await?;
    let attacker = Issuer::start(Reply::keys(&[&own])).await?;
    let gateway = gateway(&nats, &[entry(NAME, &issuer)]).await?;
    let header = || Header { kid: Some("a".into()), ..Header::new(Algorithm::ES256) };
    let jwk = serde_json::from_value(own.jwk())?;
    let headers = [
        Header { jwk: Some(jwk), ..header() },
        Header { jku: Some(attacker.uri()), ..header() },
        Header { x5u: Some(attacker.uri()), ..header() },
        Header { jku: Some(attacker.uri()), kid: Some("new".into()), ..Header::new(Algorithm::ES256) },
    ];
    for header in headers {
        assert_eq!(status(&gateway, own.sign_with(&header, &claims(NAME))).await?, 401, "{header:?}");
    }
    assert_eq!(attacker.fetches(), 0);
    // What is critical must be understood, and nothing is.
    let critical = Header { crit: Some(vec!["b64".into()]), ..header() };
    assert_eq!(status(&gateway, key.sign_with(&critical, &claims(NAME))).await?, 401);
    assert_eq!(status(&gateway, key.sign_with(&header(), &claims(NAME))).await?, 200);
    Ok(())
}
