//! JWTs: a header and claims of any kind under a signature that is good, of which only those become an identity that say
//! what they must; and any text, which is none without a signature. Header and claims are two lines.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::FutureExt as _;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value};
use sse_gateway::auth::Identity;
use sse_gateway::auth::jwt::{Verifier, VerifyError};
use sse_gateway::config::{Config, GatewayName};
use sse_gateway::subject::MAX_TOKEN;

const SPEC: &str = r#"
nats: {url: "nats://n:4222"}
auth:
  issuers: [{issuer: tests, audiences: [sse], algorithms: [HS256], keySecretRef: {name: jwt, key: key}}]
  userIdClaims: [uid, sub]
  defaultTenant: ""
"#;
const KEY: &[u8] = b"a key that is long enough for HS256";
/// Clocks may differ by this much, and the run may take a while.
const LEEWAY: f64 = 60.0;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("sse-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("jwt")).expect("a folder");
    std::fs::write(dir.join("jwt/key"), KEY).expect("a file");
    let name = GatewayName { namespace: "default".into(), name: "gateway".into() };
    let config = Config::parse(SPEC, Path::new("."), name, 0).expect("a good configuration");
    Verifier::new(&config.spec.auth, &dir)
});

fn verify(jwt: &str) -> Result<Identity, VerifyError> {
    VERIFIER.verify(jwt).now_or_never().expect("a key in a file is not waited for")
}

pub fn check(input: &[u8]) {
    let _ = is_taken(input);
}

/// Whether it is an identity; what must hold for either is looked at.
pub fn is_taken(input: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(verify(text).is_err(), "nobody signed it");
    }
    let mut lines = input.splitn(2, |b| *b == b'\n');
    let (header, claims) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = EncodingKey::from_secret(KEY);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a key");
    let Ok(identity) = verify(&format!("{signed}.{signature}")) else { return false };
    let object = |json: &[u8]| serde_json::from_slice::<Map<String, Value>>(json).expect("it was understood");
    let (header, claims) = (object(header), object(claims));
    assert_eq!(header["alg"], "HS256");
    assert!(!header.contains_key("crit") || header["crit"].is_null(), "{header:?}");
    assert_meant(&claims);
    assert_named(&identity, &claims);
    true
}

/// The issuer, the audience and the time.
fn assert_meant(claims: &Map<String, Value>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert_eq!(claims["iss"], "tests");
    let audience = match &claims["aud"] {
        Value::Array(list) => list.iter().any(|one| one == "sse"),
        one => one == "sse",
    };
    assert!(audience, "{claims:?}");
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp > now - LEEWAY), "{claims:?}");
    let begun = |nbf: &Value| nbf.is_null() || nbf.as_f64().is_some_and(|nbf| nbf < now + LEEWAY);
    assert!(claims.get("nbf").is_none_or(begun), "{claims:?}");
}

/// The user and the tenant are what the claims say, and what they grant is bounded.
fn assert_named(identity: &Identity, claims: &Map<String, Value>) {
    let text = |name: &str| match claims.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    assert_eq!(identity.user.decode(), text("uid").or_else(|| text("sub")));
    assert_eq!(identity.tenant.decode(), text("tenant"));
    for token in [&identity.user, &identity.tenant] {
        assert!(
            (1..=MAX_TOKEN).contains(&token.as_str().len()) && !token.as_str().contains(['.', '*', '>', ' '])
        );
    }
    assert!(!identity.tenant.as_str().starts_with('_'));
    assert!(identity.topics.len() <= 256 && identity.publish.len() <= 256);
    assert!(identity.expires > 0);
}
