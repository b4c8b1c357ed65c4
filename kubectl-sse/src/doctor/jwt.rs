//! What a JWT says of itself, beside what the gateway accepts. The signature is the gateway's to verify.

use jiff::Timestamp;
use serde_json::Value;
use sse_crds::SseGatewaySpec;

use super::finding::Finding;
use crate::credential::Said;

/// The gateway allows clocks to differ by this much, in seconds.
const LEEWAY: i64 = 10;

/// What is found here.
pub const CODES: [&str; 9] = [
    "WrongIssuer",
    "WrongAudience",
    "WrongAlgorithm",
    "JwtExpired",
    "JwtNotYetValid",
    "JwtFromTheFuture",
    "JwtWithoutExpiry",
    "NoUserClaim",
    "NoTenantClaim",
];

/// `now`: by the clock of a pod, where that is known.
pub fn findings(said: &Said, spec: &SseGatewaySpec, now: Timestamp) -> Vec<Finding> {
    let auth = &spec.auth;
    let refused = "the gateway answers 401 to whoever presents it";
    let mut found = times(said, now);
    let names =
        || auth.issuers.iter().map(|issuer| format!("{:?}", issuer.issuer)).collect::<Vec<_>>().join(", ");
    let issuer = said.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let at = auth.issuers.iter().position(|accepted| accepted.issuer == issuer);
    if let Some((i, accepted)) = at.map(|i| (i, &auth.issuers[i])) {
        let audiences = audiences(said);
        let meant =
            accepted.audiences.is_empty() || audiences.iter().any(|one| accepted.audiences.contains(one));
        if !meant {
            let what = format!("the JWT is for {audiences:?}, the gateway is {:?}", accepted.audiences);
            found.push(
                Finding::error("WrongAudience", format!("spec.auth.issuers[{i}].audiences"), what)
                    .because(refused)
                    .so("ask the issuer for a JWT with one of these as aud, or add the one it has"),
            );
        }
        let algorithms: Vec<_> =
            accepted.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
        if !algorithms.contains(&said.algorithm) {
            let what = format!("the JWT is signed by {:?}, accepted are {algorithms:?}", said.algorithm);
            found.push(
                Finding::error("WrongAlgorithm", format!("spec.auth.issuers[{i}].algorithms"), what)
                    .because(refused)
                    .so("name the algorithm that the issuer signs with"),
            );
        }
    } else {
        let what = format!("the JWT was made by {issuer:?}, accepted are: {}", names());
        found.push(
            Finding::error("WrongIssuer", "spec.auth.issuers", what)
                .because(refused)
                .so("compare letter by letter, the slash at the end too; add the issuer if its users are to be let in"),
        );
    }
    if auth.user_id_claims.iter().all(|claim| said.text(claim).is_none()) {
        let what = format!("the JWT has none of {:?}", auth.user_id_claims);
        found.push(
            Finding::error("NoUserClaim", "spec.auth.userIdClaims", what)
                .because(refused)
                .so("name the claim that holds the user"),
        );
    }
    if auth.default_tenant.is_empty() && said.text(&auth.tenant_claim).is_none() {
        let what = format!("the JWT has no {:?}, and spec.auth.defaultTenant is empty", auth.tenant_claim);
        found.push(
            Finding::error("NoTenantClaim", "spec.auth.tenantClaim", what)
                .because(refused)
                .so("name the claim that holds the tenant, or set spec.auth.defaultTenant"),
        );
    }
    found
}

fn audiences(said: &Said) -> Vec<String> {
    match said.claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn times(said: &Said, now: Timestamp) -> Vec<Finding> {
    let now = now.as_second();
    let mut found = Vec::new();
    let clocks =
        "set the clocks of issuer and nodes by NTP; a JWT may begin at most 10 s ahead of a pod's clock";
    match said.seconds("exp") {
        None => found.push(
            Finding::error("JwtWithoutExpiry", "JWT: exp", "is missing")
                .because("the gateway accepts no JWT that lasts for ever")
                .so("have the issuer set it"),
        ),
        Some(exp) if exp + LEEWAY < now => found.push(
            Finding::error("JwtExpired", "JWT: exp", format!("the JWT expired {} s ago", now - exp))
                .because("the gateway answers 401 to whoever presents it")
                .so("take a fresh one; if it is fresh, the issuer's clock is behind"),
        ),
        Some(_) => {}
    }
    let ahead = |claim| said.seconds(claim).map(|at| at - now).filter(|ahead| *ahead > LEEWAY);
    if let Some(seconds) = ahead("nbf") {
        found.push(
            Finding::error("JwtNotYetValid", "JWT: nbf", format!("the JWT is good in {seconds} s only"))
                .because("the gateway answers 401 until then")
                .so(clocks),
        );
    } else if let Some(seconds) = ahead("iat") {
        found.push(
            Finding::warning("JwtFromTheFuture", "JWT: iat", format!("the JWT will be made in {seconds} s"))
                .because("the clock of the issuer is ahead of the gateway's: its JWTs live longer here than is meant")
                .so(clocks),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(claims: &Value) -> Vec<&'static str> {
        let spec = json!({"nats": {"url": "nats://nats"}, "auth": {"issuers": [
            {"issuer": "https://a", "audiences": ["sse"], "jwksUri": "https://a/keys"},
        ]}});
        let mut all =
            json!({"iss": "https://a", "aud": ["x", "sse"], "exp": 1100, "sub": "alice", "tenant": "acme"});
        for (name, value) in claims.as_object().expect("claims") {
            all[name] = value.clone();
        }
        let said = Said { algorithm: "RS256".into(), claims: all.as_object().expect("claims").clone() };
        let spec = serde_json::from_value(spec).expect("a spec");
        findings(&said, &spec, Timestamp::from_second(1000).expect("a time"))
            .iter()
            .map(|one| one.code)
            .collect()
    }

    #[test]
    fn a_good_jwt_has_nothing_to_tell() {
        assert_eq!(codes(&json!({})), [""; 0]);
        assert_eq!(codes(&json!({"aud": "sse", "nbf": 1010, "iat": 1010, "exp": 991})), [""; 0]);
    }

    #[test]
    fn each_thing_that_the_gateway_would_refuse_is_named() {
        for (claims, code) in [
            (json!({"iss": "https://a/"}), "WrongIssuer"),
            (json!({"aud": "other"}), "WrongAudience"),
            (json!({"aud": null}), "WrongAudience"),
            (json!({"exp": 900}), "JwtExpired"),
            (json!({"exp": null}), "JwtWithoutExpiry"),
            (json!({"nbf": 1300, "iat": 1300}), "JwtNotYetValid"),
            (json!({"iat": 1300}), "JwtFromTheFuture"),
            (json!({"sub": ""}), "NoUserClaim"),
            (json!({"tenant": null}), "NoTenantClaim"),
        ] {
            assert_eq!(codes(&claims), [code], "{claims}");
            assert!(CODES.contains(&code));
        }
    }
}
