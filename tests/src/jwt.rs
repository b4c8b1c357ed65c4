//! Credentials as an issuer would make them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

use crate::secrets;

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
    let mut claims = of(tenant, user);
    crate::process::merge(&mut claims, more);
    signed(&claims, KEY, Algorithm::HS256)
}

/// A good credential of a user whose id may be anything, even a word of the log: it alone is no [secret](secrets).
#[must_use]
pub fn jwt_of_anything(tenant: &str, user: &str) -> String {
    encoded(&Header::new(Algorithm::HS256), &of(tenant, user), &EncodingKey::from_secret(KEY.as_bytes()))
}

fn of(tenant: &str, user: &str) -> Value {
    json!({"iss": ISSUER, "sub": user, "tenant": tenant, "exp": now() + 3600})
}

/// Claims signed with a secret.
#[must_use]
pub fn signed(claims: &Value, key: &str, algorithm: Algorithm) -> String {
    told_of(claims);
    encoded(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes()))
}

fn told_of(claims: &Value) {
    secrets::user(claims["sub"].as_str().unwrap_or_default());
}

fn encoded(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    let jwt = jsonwebtoken::encode(header, claims, key).expect("claims that can be signed");
    secrets::jwt(&jwt);
    jwt
}

/// A key pair of an issuer.
pub struct IssuerKey {
    pub id: String,
    pub algorithm: Algorithm,
    /// The public key in PEM.
    pub public: String,
    private: String,
}

impl IssuerKey {
    /// A fresh key for ES256.
    #[must_use]
    pub fn ec(id: &str) -> Self {
        Self::of(id, Algorithm::ES256, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"))
    }

    /// A fresh key for `EdDSA`.
    #[must_use]
    pub fn ed(id: &str) -> Self {
        Self::of(id, Algorithm::EdDSA, &KeyPair::generate_for(&PKCS_ED25519).expect("a key"))
    }

    /// The one RSA key of the tests, for RS256: making one takes long.
    #[must_use]
    pub fn rsa(id: &str) -> Self {
        let pair = KeyPair::from_pem(include_str!("../keys/rsa.pem")).expect("a key");
        Self::of(id, Algorithm::RS256, &pair)
    }

    fn of(id: &str, algorithm: Algorithm, pair: &KeyPair) -> Self {
        Self { id: id.into(), algorithm, public: pair.public_key_pem(), private: pair.serialize_pem() }
    }

    /// Claims signed with the key, under its id.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) }, claims)
    }

    /// Claims signed with the key, under any header.
    #[must_use]
    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        let private = self.private.as_bytes();
        let key = match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(private),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private),
            _ => EncodingKey::from_rsa_pem(private),
        };
        told_of(claims);
        encoded(header, claims, &key.expect("a private key"))
    }

    /// The public key, as a key set has it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let public = self.public.as_bytes();
        let key = match self.algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_pem(public),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(public),
            _ => DecodingKey::from_rsa_pem(public),
        };
        let jwk = Jwk::from_decoding_key(&key.expect("a public key"), Some(self.algorithm));
        let mut jwk = serde_json::to_value(jwk.expect("a key of a known kind")).expect("JSON");
        crate::process::merge(&mut jwk, json!({"kid": self.id, "use": "sig"}));
        jwk
    }
}
