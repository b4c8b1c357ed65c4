//! Who a request speaks for. An [`Identity`] exists only after a credential was verified, and
//! comes from the credential alone: never from a path, a query or a header beside it.

pub mod fetch;
pub mod jwks;
pub mod jwt;
pub mod remote;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::subject::{Grant, Pattern, Token};

/// Most patterns of a kind that one credential grants.
const MAX_GRANTS: usize = 256;
/// Longest tag from a claim, in characters.
const MAX_TAG: usize = 256;

/// A verified user of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: Token,
    pub user: Token,
    /// Topics that it may subscribe to.
    pub topics: Vec<Pattern>,
    /// Subjects below the tenant that it may publish to.
    pub publish: Vec<Grant>,
    /// What the credential says of the connection beyond that, for `/status` and spans.
    pub tags: BTreeMap<String, String>,
    /// When the credential expires, in seconds since 1970.
    pub expires: u64,
}

/// Which claims make an identity.
#[derive(Clone, Debug)]
pub struct Claims {
    pub user_id: Vec<String>,
    pub tenant: String,
    /// Tenant of a credential without the claim; empty: it is refused.
    pub default_tenant: String,
    /// Lists patterns of topics.
    pub topics: String,
    /// Lists patterns of subjects below the tenant.
    pub publish: String,
    pub tags: Vec<String>,
}

/// Why a credential is refused. The text is safe to show: it holds nothing of the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    #[error("No credential was presented.")]
    NoCredential,
    #[error("The credential is there more than once, and not the same.")]
    Twice,
    #[error("The credential is not a JWT.")]
    Malformed,
    #[error("The issuer of the credential is not known.")]
    UnknownIssuer,
    #[error("The signature algorithm is not accepted for this issuer.")]
    Algorithm,
    #[error("The credential needs a header to be understood that is not.")]
    Critical,
    #[error("The key of the credential is not known.")]
    Key,
    #[error("The signature is not valid.")]
    Signature,
    #[error("The credential has expired.")]
    Expired,
    #[error("The credential is not valid yet.")]
    NotYetValid,
    #[error("The credential is meant for another audience.")]
    Audience,
    #[error("User identifier claim not found.")]
    NoUser,
    #[error("Tenant claim not found.")]
    NoTenant,
    #[error("The tenant of the credential can not be used.")]
    BadTenant,
    #[error("The user identifier of the credential can not be used.")]
    BadUser,
    #[error("The token is not valid, was used, or has expired.")]
    Token,
}

impl Claims {
    /// Reads an identity from verified claims.
    ///
    /// # Errors
    ///
    /// When the user or the tenant is missing, or can not be a token of a subject.
    pub fn identity(&self, claims: &Map<String, Value>, expires: u64) -> Result<Identity, Unauthorized> {
        let user = self.user_id.iter().find_map(|name| text(claims, name)).ok_or(Unauthorized::NoUser)?;
        let tenant = match text(claims, &self.tenant) {
            Some(tenant) => tenant,
            None if self.default_tenant.is_empty() => return Err(Unauthorized::NoTenant),
            None => self.default_tenant.clone(),
        };
        if tenant.starts_with('_') {
            return Err(Unauthorized::BadTenant);
        }
        let tenant = Token::encode(&tenant).map_err(|_| Unauthorized::BadTenant)?;
        let user = Token::encode(&user).map_err(|_| Unauthorized::BadUser)?;
        let tag = |name: &String| Some((name.clone(), text(claims, name)?.chars().take(MAX_TAG).collect()));
        let tags = self.tags.iter().filter_map(tag).collect();
        let topics = grants(claims, &self.topics, |text| Pattern::parse(text).ok());
        let publish = grants(claims, &self.publish, Grant::parse);
        Ok(Identity { tenant, user, topics, publish, tags, expires })
    }
}

/// The patterns that a claim lists: an array, or one text with blanks or commas between them. What is no
/// pattern grants nothing.
fn grants<P>(claims: &Map<String, Value>, name: &str, parse: impl Fn(&str) -> Option<P>) -> Vec<P> {
    let texts: Vec<&str> = match claims.get(name) {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => {
            text.split([' ', ',', '\t', '\n']).filter(|item| !item.is_empty()).collect()
        }
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(parse).take(MAX_GRANTS).collect()
}

/// A claim as text, if it is there and not empty. Numbers are ids too.
fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    match claims.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(claims: &Value, default_tenant: &str) -> Result<(String, String), Unauthorized> {
        let rules = Claims {
            user_id: vec!["uid".into(), "sub".into()],
            tenant: "tenant".into(),
            default_tenant: default_tenant.into(),
            topics: "topics".into(),
            publish: "publish".into(),
            tags: Vec::new(),
        };
        let claims = claims.as_object().expect("an object").clone();
        rules.identity(&claims, 0).map(|i| (i.tenant.to_string(), i.user.to_string()))
    }

    #[test]
    fn the_first_user_claim_that_is_not_empty_counts() {
        let ok = identity(&json!({"uid": "", "sub": "a@b", "tenant": "acme"}), "");
        assert_eq!(ok, Ok(("acme".into(), "a%40b".into())));
        assert_eq!(identity(&json!({"uid": 7, "sub": "a", "tenant": "t"}), ""), Ok(("t".into(), "7".into())));
    }

    #[test]
    fn what_is_missing_is_refused() {
        assert_eq!(identity(&json!({"tenant": "t"}), ""), Err(Unauthorized::NoUser));
        assert_eq!(identity(&json!({"sub": "a"}), ""), Err(Unauthorized::NoTenant));
        assert_eq!(identity(&json!({"sub": "a"}), "d"), Ok(("d".into(), "a".into())));
        assert_eq!(identity(&json!({"sub": "a", "tenant": "_sys"}), ""), Err(Unauthorized::BadTenant));
        assert_eq!(identity(&json!({"sub": "a".repeat(129), "tenant": "t"}), ""), Err(Unauthorized::BadUser));
        assert_eq!(identity(&json!({"sub": ["a"], "tenant": "t"}), ""), Err(Unauthorized::NoUser));
    }

    #[test]
    fn topics_are_granted_by_a_list_or_a_text() {
        let granted = |claim: Value| {
            let claims = json!({"topics": claim});
            let claims = claims.as_object().expect("an object");
            let grants = grants(claims, "topics", |text| Pattern::parse(text).ok());
            grants.iter().map(Pattern::to_string).collect::<Vec<_>>()
        };
        assert_eq!(granted(json!(["Orders.*", "news", 7, "a..b"])), ["orders.*", "news"]);
        assert_eq!(granted(json!("orders.> news,jobs")), ["orders.>", "news", "jobs"]);
        assert_eq!(granted(json!(true)), Vec::<String>::new());
    }

    #[test]
    fn a_wildcard_in_an_id_is_just_a_character() {
        assert_eq!(identity(&json!({"sub": "*", "tenant": ">"}), ""), Ok(("%3E".into(), "%2A".into())));
    }
}
