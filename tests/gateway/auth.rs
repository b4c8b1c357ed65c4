//! Credentials that must not open a stream, and keys that change.

use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::jwt::{ISSUER, IssuerKey, KEY, now, signed};
use sse_tests::process::{Gateway, Nats};

fn claims(patch: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "sse", "sub": "alice", "tenant": "acme", "exp": now() + 600, "nbf": now() - 5});
    sse_tests::process::merge(&mut claims, patch);
    claims
}

/// `{"alg":"none"}`, unsigned.
fn unsigned(claims: &Value) -> String {
    use jsonwebtoken::EncodingKey;
    let signed =
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &EncodingKey::from_secret(b"x"));
    let signed = signed.expect("claims that can be signed");
    let payload = signed.split('.').nth(1).expect("a payload");
    format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")
}

#[tokio::test]
async fn what_is_not_a_good_credential_is_refused_and_says_why() -> Result<()> {
    let nats = Nats::start().await?;
    let issuer = json!({"issuer": ISSUER, "audiences": ["sse"], "algorithms": ["HS256"],
        "keySecretRef": {"name": "jwt", "key": "key"}});
    let gateway = Gateway::start(&nats, json!({"auth": {"issuers": [issuer]}})).await?;
    let sign = |patch| signed(&claims(patch), KEY, Algorithm::HS256);
    let cases = [
        (sign(json!({})), 200, "token"),
        (unsigned(&claims(json!({}))), 401, "not a JWT"),
        (signed(&claims(json!({})), KEY, Algorithm::HS512), 401, "algorithm"),
        (signed(&claims(json!({})), "another key", Algorithm::HS256), 401, "signature"),
        (sign(json!({"iss": "another"})), 401, "issuer"),
        (sign(json!({"iss": null})), 401, "issuer"),
        (sign(json!({"aud": "another"})), 401, "audience"),
        (sign(json!({"aud": null})), 401, "audience"),
        (sign(json!({"exp": now() - 60})), 401, "expired"),
        (sign(json!({"exp": null})), 401, ""),
        (sign(json!({"nbf": now() + 600})), 401, "not valid yet"),
        (sign(json!({"sub": ""})), 401, "User identifier claim not found."),
        (sign(json!({"tenant": null})), 401, "Tenant claim not found."),
        (sign(json!({"tenant": "_sys"})), 401, "tenant"),
        ("x".repeat(100), 401, "not a JWT"),
        (String::new(), 401, ""),
    ];
    for (jwt, status, detail) in cases {
        let mut client = gateway.client("acme", "alice");
        client.jwt = jwt;
        let answer = client.ask_token().await?;
        assert_eq!(answer.status, status, "{detail}: {}", answer.body);
        assert!(answer.body.contains(detail), "{detail:?} is not in {}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn a_rotated_key_needs_no_restart_and_a_missing_one_heals() -> Result<()> {
    let nats = Nats::start().await?;
    let issuer =
        json!({"issuer": ISSUER, "algorithms": ["HS256"], "keySecretRef": {"name": "late", "key": "key"}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({"auth": {"issuers": [issuer]}}))?;
    eventually("the missing secret in /status", Duration::from_secs(10), || async {
        let missing = gateway.status().await?["missingSecrets"].clone();
        anyhow::ensure!(missing == json!(["auth.issuers[0].keySecretRef: late/key"]), "{missing}");
        Ok(())
    })
    .await?;
    let (ready, why) = gateway.get("/readyz").await?;
    assert!(ready == 503 && why.contains("late/key"), "{ready} {why}");
    gateway.write_secret("late", "key", KEY)?;
    gateway.ready().await?;
    let client = gateway.client("acme", "alice");
    assert_eq!(client.ask_token().await?.status, 200);

    gateway.write_secret("late", "key", "a new key, of another length than the old one")?;
    eventually("the old key refused", Duration::from_secs(5), || async {
        let status = client.ask_token().await?.status;
        anyhow::ensure!(status == 401, "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn missing_nats_credentials_are_named_while_the_pod_lives() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"nats": {"credentialsSecretRef": {"name": "creds", "key": "nats.creds"}}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", patch)?;
    eventually("the missing secret in /status", Duration::from_secs(10), || async {
        let missing = gateway.status().await?["missingSecrets"].clone();
        anyhow::ensure!(missing == json!(["nats.credentialsSecretRef: creds/nats.creds"]), "{missing}");
        Ok(())
    })
    .await?;
    assert_eq!(gateway.get("/livez").await?.0, 200);
    gateway.write_secret("creds", "nats.creds", "not a credentials file")?;
    eventually("the useless secret in /status", Duration::from_secs(10), || async {
        let problem = gateway.status().await?["problems"][0]["message"].clone();
        anyhow::ensure!(
            problem.as_str().is_some_and(|text| text.starts_with("nats.credentialsSecretRef: ")),
            "{problem}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stream_ends_when_its_credential_does() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let mut client = gateway.client("acme", "alice");
    let claims = json!({"iss": ISSUER, "sub": "alice", "tenant": "acme", "exp": now() + 4});
    client.jwt = signed(&claims, KEY, Algorithm::HS256);
    let mut stream = client.open("").await?;
    stream.to_end(Duration::from_secs(15)).await?;
    assert_eq!(stream.ended_cleanly, Some(true));
    // A clock that differs would be forgiven some seconds: the client would come back to one end after another.
    let authorization = format!("Bearer {}", client.jwt);
    let headers = [("authorization", authorization.as_str())];
    let answer = client.request(Method::GET, "/api/v1/sse/stream", &headers).await?;
    assert!(answer.status == 401 && answer.body.contains("has expired"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn each_kind_of_public_key_verifies_its_own_algorithm_and_no_other() -> Result<()> {
    let nats = Nats::start().await?;
    let keys = [IssuerKey::rsa("a"), IssuerKey::ec("a"), IssuerKey::ed("a")];
    let all = json!(["RS256", "ES256", "EdDSA"]);
    // Each kind twice: with its own algorithm, and with all of them.
    let entry = |i: usize, wide: bool| {
        let algorithms = if wide { all.clone() } else { json!([all[i]]) };
        json!({"issuer": format!("{i} {wide}"), "algorithms": algorithms,
            "keySecretRef": {"name": format!("pem-{i}"), "key": "key.pem"}})
    };
    let issuers: Vec<_> = (0..3).flat_map(|i| [entry(i, false), entry(i, true)]).collect();
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({"auth": {"issuers": issuers}}))?;
    for (i, key) in keys.iter().enumerate() {
        gateway.write_secret(&format!("pem-{i}"), "key.pem", &key.public)?;
    }
    gateway.ready().await?;
    let mut client = gateway.client("acme", "alice");
    for (i, key) in keys.iter().enumerate() {
        for (j, wide) in (0..3).flat_map(|j| [(j, false), (j, true)]) {
            client.jwt = key.sign(&claims(json!({"iss": format!("{j} {wide}")})));
            let answer = client.ask_token().await?;
            assert_eq!(answer.status, if i == j { 200 } else { 401 }, "{i} {j} {wide}: {}", answer.body);
        }
    }
    // Another key of the same kind, and the public key as if it were a shared secret.
    client.jwt = IssuerKey::ec("a").sign(&claims(json!({"iss": "1 true"})));
    assert_eq!(client.ask_token().await?.status, 401);
    for (i, key) in keys.iter().enumerate() {
        for secret in [key.public.as_str(), key.public.trim_end()] {
            client.jwt = signed(&claims(json!({"iss": format!("{i} true")})), secret, Algorithm::HS256);
            assert_eq!(client.ask_token().await?.status, 401, "{i}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_that_holds_no_key_is_named_and_heals() -> Result<()> {
    let nats = Nats::start().await?;
    let key = IssuerKey::ec("a");
    let issuer =
        json!({"issuer": ISSUER, "algorithms": ["ES256"], "keySecretRef": {"name": "pem", "key": "key.pem"}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({"auth": {"issuers": [issuer]}}))?;
    gateway.write_secret("pem", "key.pem", "no key at all")?;
    let mut client = gateway.client("acme", "alice");
    client.jwt = key.sign(&claims(json!({})));
    eventually("the field in /readyz", Duration::from_secs(10), || async {
        let (ready, why) = gateway.get("/readyz").await?;
        anyhow::ensure!(ready == 503 && why.contains("auth.issuers[0].keySecretRef"), "{ready} {why}");
        Ok(())
    })
    .await?;
    assert_eq!(gateway.status().await?["problems"][0]["reason"], "KeyUnusable");
    let answer = client.ask_token().await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    gateway.write_secret("pem", "key.pem", &key.public)?;
    gateway.ready().await?;
    assert_eq!(client.ask_token().await?.status, 200);
    Ok(())
}
