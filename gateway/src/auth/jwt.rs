//! JSON Web Tokens (RFC 7519), verified as RFC 8725 advises: the algorithms are bound to the
//! issuer's key, never taken from the token; `exp` must be there; `jku`, `x5u` and keys inside the
//! token are not looked at.

use std::path::Path;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use sse_crds::auth::{Algorithm as Accepted, Auth};

use super::{Claims, Identity, Unauthorized};
use crate::secret::{Missing, SecretFile};

/// Longest JWT that is looked at, in bytes: request heads have a bound, parsing should too.
const MAX_JWT: usize = 16 * 1024;
/// Clocks of issuer and gateway may differ by this much, in seconds.
const LEEWAY: u64 = 10;

/// Verifies the JWTs of the configured issuers.
pub struct Verifier {
    issuers: Vec<Issuer>,
    claims: Claims,
}

struct Issuer {
    name: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    symmetric: bool,
    key: SecretFile,
}

/// Why a JWT could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// The gateway lacks the key; the client is not to blame.
    #[error("the key of the issuer is missing: {0}")]
    Key(#[from] Missing),
    #[error("{field}: the key can not be used")]
    BadKey { field: String },
}

impl Verifier {
    /// Takes the issuers that have their key in a secret.
    #[must_use]
    pub fn new(auth: &Auth, secrets_dir: &Path) -> Self {
        let issuer = |(i, issuer): (usize, &sse_crds::auth::Issuer)| {
            let secret = issuer.key_secret_ref.clone()?;
            let field = format!("auth.issuers[{i}].keySecretRef");
            Some(Issuer {
                name: issuer.issuer.clone(),
                audiences: issuer.audiences.clone(),
                algorithms: issuer.algorithms.iter().copied().map(algorithm).collect(),
                symmetric: issuer.algorithms.iter().any(|a| a.is_symmetric()),
                key: SecretFile::new(secrets_dir, field, secret),
            })
        };
        let claims = Claims {
            user_id: auth.user_id_claims.clone(),
            tenant: auth.tenant_claim.clone(),
            default_tenant: auth.default_tenant.clone(),
            topics: auth.topics_claim.clone(),
            tags: auth.tag_claims.clone(),
        };
        Self { issuers: auth.issuers.iter().enumerate().filter_map(issuer).collect(), claims }
    }

    /// Verifies a JWT and reads the identity that it stands for.
    ///
    /// # Errors
    ///
    /// When the JWT is refused, or the issuer's key is not there.
    pub fn verify(&self, jwt: &str) -> Result<Identity, VerifyError> {
        if jwt.len() > MAX_JWT {
            return Err(Unauthorized::Malformed.into());
        }
        let header = jsonwebtoken::decode_header(jwt).map_err(|_| Unauthorized::Malformed)?;
        // Only to choose the key; every claim is read again after the signature was checked.
        let unverified = jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(jwt)
            .map_err(|_| Unauthorized::Malformed)?;
        let name = unverified.get("iss").and_then(Value::as_str);
        let issuer =
            self.issuers.iter().find(|i| Some(i.name.as_str()) == name).ok_or(Unauthorized::UnknownIssuer)?;
        if !issuer.algorithms.contains(&header.alg) {
            return Err(Unauthorized::Algorithm.into());
        }
        let key = issuer.decoding_key(header.alg)?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(jwt, &key, &issuer.validation())
            .map_err(|error| refusal(error.kind()))?;
        let expires = decoded.claims.get("exp").and_then(Value::as_f64).ok_or(Unauthorized::Expired)?;
        // Whole seconds, as JWTs have them; a fraction is cut off.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let expires = expires as u64;
        Ok(self.claims.identity(&decoded.claims, expires)?)
    }
}

impl Issuer {
    fn decoding_key(&self, algorithm: Algorithm) -> Result<DecodingKey, VerifyError> {
        let content = self.key.load()?;
        if self.symmetric {
            return Ok(DecodingKey::from_secret(&content));
        }
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(&content),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(&content),
            _ => DecodingKey::from_rsa_pem(&content),
        };
        key.map_err(|_| VerifyError::BadKey { field: format!("auth.issuers ({}).keySecretRef", self.name) })
    }

    fn validation(&self) -> Validation {
        let mut validation = Validation::new(self.algorithms.first().copied().unwrap_or_default());
        validation.algorithms.clone_from(&self.algorithms);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.validate_aud = !self.audiences.is_empty();
        validation.set_issuer(&[&self.name]);
        if self.audiences.is_empty() {
            validation.set_required_spec_claims(&["exp", "iss"]);
        } else {
            validation.set_audience(&self.audiences);
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        }
        validation
    }
}

fn refusal(kind: &ErrorKind) -> Unauthorized {
    match kind {
        ErrorKind::ImmatureSignature => Unauthorized::NotYetValid,
        ErrorKind::InvalidAudience => Unauthorized::Audience,
        ErrorKind::InvalidIssuer => Unauthorized::UnknownIssuer,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Unauthorized::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Unauthorized::Audience,
        ErrorKind::ExpiredSignature | ErrorKind::MissingRequiredClaim(_) => Unauthorized::Expired,
        ErrorKind::InvalidSignature => Unauthorized::Signature,
        _ => Unauthorized::Malformed,
    }
}

const fn algorithm(accepted: Accepted) -> Algorithm {
    match accepted {
        Accepted::HS256 => Algorithm::HS256,
        Accepted::HS384 => Algorithm::HS384,
        Accepted::HS512 => Algorithm::HS512,
        Accepted::RS256 => Algorithm::RS256,
        Accepted::RS384 => Algorithm::RS384,
        Accepted::RS512 => Algorithm::RS512,
        Accepted::PS256 => Algorithm::PS256,
        Accepted::PS384 => Algorithm::PS384,
        Accepted::PS512 => Algorithm::PS512,
        Accepted::ES256 => Algorithm::ES256,
        Accepted::ES384 => Algorithm::ES384,
        Accepted::EdDSA => Algorithm::EdDSA,
    }
}
