//! Credentials as an issuer would make them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The issuer and the key that the tests' gateways accept.
pub const ISSUER: &str = "tests";
pub const KEY: &str = "a key for tests that is long enough for HS256";

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A good credential, good for an hour.
#[must_use]
pub fn jwt(tenant: &str, user: &str) -> String {
    jwt_with(tenant, user, json!({}))
}

/// The same, with more claims.
#[must_use]
pub fn jwt_with(tenant: &str, user: &str, more: Value) -> String {
    let mut claims = json!({"iss": ISSUER, "sub": user, "tenant": tenant, "exp": now() + 3600});
    crate::process::merge(&mut claims, more);
    signed(&claims, KEY, Algorithm::HS256)
}

/// Claims signed with a secret.
#[must_use]
pub fn signed(claims: &Value, key: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(key.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("claims that can be signed")
}
