//! The key set of an issuer, as it comes over the network: nothing of it is a key for what it was not made for.

use jsonwebtoken::Algorithm;
use serde_json::Value;
use sse_gateway::auth::jwks::KeySet;

const ALGORITHMS: [(Algorithm, &str); 9] = [
    (Algorithm::RS256, "RSA"),
    (Algorithm::RS384, "RSA"),
    (Algorithm::RS512, "RSA"),
    (Algorithm::PS256, "RSA"),
    (Algorithm::PS384, "RSA"),
    (Algorithm::PS512, "RSA"),
    (Algorithm::ES256, "P-256"),
    (Algorithm::ES384, "P-384"),
    (Algorithm::EdDSA, "Ed25519"),
];

pub fn check(input: &[u8]) {
    let Ok(set) = KeySet::parse(input) else { return };
    let json: Value = serde_json::from_slice(input).expect("it was understood");
    let keys = json["keys"].as_array().expect("a set");
    assert!((1..=keys.len()).contains(&set.len()) && keys.len() <= 100);
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let ids = keys.iter().map(|key| key["kid"].as_str()).chain([None]);
        ids.for_each(|id| assert!(set.find(algorithm, id).is_none(), "a public key is no shared secret"));
    }
    for (algorithm, kind) in ALGORITHMS {
        let serves = |key: &Value| {
            let made_for = key["alg"].is_null() || key["alg"] == format!("{algorithm:?}");
            let verifies = (key["use"].is_null() || key["use"] == "sig")
                && key["key_ops"].as_array().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
            (key["kty"] == kind || key["crv"] == kind) && made_for && verifies
        };
        for id in keys.iter().filter_map(|key| key["kid"].as_str()) {
            if set.find(algorithm, Some(id)).is_some() {
                assert!(keys.iter().any(|key| key["kid"] == id && serves(key)), "{algorithm:?} {id:?}");
            }
        }
        if set.find(algorithm, None).is_some() {
            assert!(keys.iter().any(serves), "{algorithm:?}");
        }
    }
}
