//! `spec.auth`: issuers of credentials, and what their claims mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;
use crate::schema::{list_map_by_issuer, rule, rules};

/// Who may connect, and as whom.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rule(
    "!('Cookie' in self.modes) || self.cookie.name.size() > 0",
    "spec.auth.cookie.name: must be set when spec.auth.modes has Cookie"
)))]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Issuers whose JWTs are accepted.
    #[schemars(schema_with = "list_map_by_issuer")]
    pub issuers: Vec<Issuer>,

    /// Claims that may hold the user id, in order: the first that is not empty counts.
    #[serde(default = "default_user_id_claims")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub user_id_claims: Vec<String>,

    /// Claim that holds the tenant.
    #[serde(default = "default_tenant_claim")]
    #[schemars(length(min = 1, max = 256))]
    pub tenant_claim: String,

    /// Tenant of a credential without the claim. Empty: such a credential is refused.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[schemars(extend("x-kubernetes-validations" = rule(
    "!self.startsWith('_')",
    "spec.auth.defaultTenant: must not begin with '_'"
)))]
    pub default_tenant: String,

    /// Claim that lists the topic patterns (with `*` and `>`) that the identity may subscribe to.
    #[serde(default = "default_topics_claim")]
    #[schemars(length(min = 1, max = 256))]
    pub topics_claim: String,

    /// Claim that lists the subject patterns below the tenant that the identity may publish to.
    #[serde(default = "default_publish_claim")]
    #[schemars(length(min = 1, max = 256))]
    pub publish_claim: String,

    /// Claims that become tags of the connection, in `/status` and in spans.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub tag_claims: Vec<String>,

    /// Ways to present a credential at the stream endpoint.
    #[serde(default = "default_modes")]
    #[schemars(length(min = 1, max = 3))]
    pub modes: Vec<Mode>,

    /// The cookie of mode `Cookie`.
    #[serde(default)]
    pub cookie: Cookie,
}

fn default_user_id_claims() -> Vec<String> {
    vec!["sub".into()]
}
fn default_tenant_claim() -> String {
    "tenant".into()
}
fn default_topics_claim() -> String {
    "topics".into()
}
fn default_publish_claim() -> String {
    "publish".into()
}
fn default_modes() -> Vec<Mode> {
    vec![Mode::Token, Mode::Bearer]
}

/// An issuer whose JWTs are accepted, and where its keys are.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    (
        "has(self.jwksUri) != has(self.keySecretRef)",
        "spec.auth.issuers: each issuer needs exactly one of jwksUri and keySecretRef",
    ),
    (
        "!has(self.jwksUri) || self.algorithms.all(a, !a.startsWith('HS'))",
        "spec.auth.issuers[].algorithms: HS* algorithms need keySecretRef: a key set is public",
    ),
])))]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// The `iss` claim, compared as it stands.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,

    /// Accepted `aud` claims: the credential needs one of them. Empty: the claim is not checked.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,

    /// Address of the issuer's JSON Web Key Set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s@]+$"))]
    pub jwks_uri: Option<String>,

    /// Key of the issuer: an HMAC secret (HS256, HS384, HS512) or a PEM public key (all others).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyRef>,

    /// Certificate authority (PEM) of the `jwksUri`, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,

    /// Accepted signature algorithms. Symmetric and asymmetric ones can not be mixed.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 12))]
    #[schemars(extend("x-kubernetes-validations" = rule(
    "self.all(a, a.startsWith('HS')) || self.all(a, !a.startsWith('HS'))",
    "spec.auth.issuers[].algorithms: HS* algorithms can not be mixed with others on one key"
)))]
    pub algorithms: Vec<Algorithm>,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256]
}

/// A JWS signature algorithm (RFC 7518).
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Whether the algorithm signs and verifies with one shared secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// A way to present a credential at the stream endpoint.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// A single-use token in the query, minted at the token endpoint.
    Token,
    /// The JWT in `Authorization: Bearer`.
    Bearer,
    /// The JWT in a cookie.
    Cookie,
}

/// The cookie of mode `Cookie`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cookie {
    /// Name of the cookie that holds the JWT.
    #[schemars(length(max = 128), regex(pattern = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$"))]
    pub name: String,
}

impl Default for Cookie {
    fn default() -> Self {
        Self { name: "access_token".into() }
    }
}
