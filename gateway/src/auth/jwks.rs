//! A JSON Web Key Set (RFC 7517), and which of its keys may verify a token.
//!
//! A key serves only what it was made for: its type and curve must fit the token's algorithm, and
//! `use`, `key_ops` and `alg` must not say otherwise. Symmetric keys are never taken from a set.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// More keys than this are no key set of an issuer.
const MAX_KEYS: usize = 100;
/// RFC 7518, 3.3: RSA keys have 2048 bits or more.
const MIN_RSA_BYTES: usize = 256;
/// Larger moduli cost too much to verify with.
const MAX_RSA_BYTES: usize = 1024;

/// The keys of one issuer that can be used.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    /// The only algorithm of the key, when it names one.
    algorithm: Option<Algorithm>,
    family: Family,
    decoding: DecodingKey,
}

/// What a key is, as far as algorithms ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Why an answer is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the answer is not a JSON Web Key Set")]
    Malformed,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    /// An issuer that signs has a key: a set without one is a mistake, not a revocation.
    #[error("the key set has no key that can be used")]
    NoKey,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// The members of RFC 7517 and RFC 7518 that matter here.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that can not be used are left out, as RFC 7517 asks.
    ///
    /// # Errors
    ///
    /// When it is no set, too large, or has no key that can be used.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let set: RawSet = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self { keys }) }
    }

    /// The key for a token with this header. A token without a key id is only understood when exactly
    /// one key fits.
    #[must_use]
    pub fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&DecodingKey> {
        let mut fit = self.keys.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(_) => fit.find(|key| key.id.as_deref() == id).map(|key| &key.decoding),
            None => fit.next().filter(|_| fit.next().is_none()).map(|key| &key.decoding),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let raw: RawKey = serde_json::from_value(value).ok()?;
        let verifies = raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies || raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        // A key for an algorithm that nobody knows here, or for encryption, fits no token.
        let algorithm = raw.alg.map(|name| name.parse()).transpose().ok()?;
        let x = raw.x.as_deref();
        let (family, decoding) = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => (Family::Rsa, rsa(raw.n.as_deref()?, raw.e.as_deref()?)?),
            ("EC", Some("P-256")) => {
                (Family::P256, DecodingKey::from_ec_components(x?, raw.y.as_deref()?).ok()?)
            }
            ("EC", Some("P-384")) => {
                (Family::P384, DecodingKey::from_ec_components(x?, raw.y.as_deref()?).ok()?)
            }
            ("OKP", Some("Ed25519")) => (Family::Ed25519, DecodingKey::from_ed_components(x?).ok()?),
            _ => return None,
        };
        Some(Self { id: raw.kid, algorithm, family, decoding })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let family = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Family::Rsa,
            Algorithm::ES256 => Family::P256,
            Algorithm::ES384 => Family::P384,
            Algorithm::EdDSA => Family::Ed25519,
            // HS* need a shared secret, and a set is public.
            _ => return false,
        };
        self.family == family && self.algorithm.is_none_or(|named| named == algorithm)
    }
}

/// An RSA key of a sound size. The lengths are those of base64url, in which the set has it.
fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let bytes = modulus.len() * 3 / 4;
    let sound = (MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&bytes) && (1..=8).contains(&exponent.len());
    sound.then(|| DecodingKey::from_rsa_components(modulus, exponent).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ed(patch: &Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        if let (Some(key), Some(patch)) = (key.as_object_mut(), patch.as_object()) {
            key.extend(patch.clone());
        }
        key
    }

    fn rsa_key(kid: &str, modulus: usize) -> Value {
        json!({"kty": "RSA", "kid": kid, "n": format!("{}Q", "u".repeat(modulus - 1)), "e": "AQAB"})
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn finds(keys: &[Value], algorithm: Algorithm, id: Option<&str>) -> bool {
        set(keys).is_ok_and(|set| set.find(algorithm, id).is_some())
    }

    #[test]
    fn a_key_serves_only_what_it_was_made_for() {
        let eddsa = |patch| finds(&[ed(&patch), rsa_key("b", 342)], Algorithm::EdDSA, Some("a"));
        assert!(eddsa(json!({})));
        assert!(eddsa(json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})));
        assert!(!eddsa(json!({"use": "enc"})));
        assert!(!eddsa(json!({"alg": "ES256"})));
        assert!(!eddsa(json!({"alg": "ECDH-ES"})));
        assert!(!eddsa(json!({"key_ops": ["sign"]})));
        assert!(!eddsa(json!({"kid": "b"})));
        assert!(!eddsa(json!({"crv": "X25519"})));
        assert!(!finds(&[ed(&json!({}))], Algorithm::ES256, Some("a")));
        assert!(!finds(&[ed(&json!({}))], Algorithm::RS256, Some("a")));
        assert!(finds(&[rsa_key("a", 342)], Algorithm::PS512, Some("a")));
        assert!(!finds(&[rsa_key("a", 171), ed(&json!({}))], Algorithm::RS256, Some("a")), "1024 bits");
    }

    #[test]
    fn a_symmetric_key_is_never_taken_from_a_set() {
        let octets = json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256"});
        assert_eq!(set(std::slice::from_ref(&octets)).err(), Some(KeySetError::NoKey));
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(!finds(&[octets.clone(), rsa_key("a", 342), ed(&json!({}))], algorithm, Some("a")));
        }
    }

    #[test]
    fn a_token_without_a_key_id_needs_exactly_one_key_that_fits() {
        let (one, two) = (ed(&json!({})), ed(&json!({"kid": "b"})));
        assert!(finds(&[one.clone(), rsa_key("r", 342)], Algorithm::EdDSA, None));
        assert!(!finds(&[one, two], Algorithm::EdDSA, None));
        assert!(!finds(&[rsa_key("r", 342)], Algorithm::EdDSA, None));
    }

    #[test]
    fn what_is_no_set_is_refused_and_a_strange_key_is_left_out() {
        let parse = |text: &str| KeySet::parse(text.as_bytes()).err();
        for text in ["", "null", "[]", "{}", r#"{"keys": {}}"#, "<html>", r#"{"keys": "a"}"#] {
            assert_eq!(parse(text), Some(KeySetError::Malformed), "{text}");
        }
        assert_eq!(parse(r#"{"keys": []}"#), Some(KeySetError::NoKey));
        assert_eq!(set(&vec![ed(&json!({})); 101]).err(), Some(KeySetError::TooMany));
        let strange = [json!(7), json!({"kty": "new"}), json!({"kty": "RSA"}), ed(&json!({"x": "*"}))];
        assert_eq!(set(&strange).err(), Some(KeySetError::NoKey));
        let mixed: Vec<Value> = strange.into_iter().chain([ed(&json!({}))]).collect();
        assert_eq!(set(&mixed).map(|set| set.len()).ok(), Some(1));
    }
}
