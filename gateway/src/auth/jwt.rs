//! JSON Web Tokens (RFC 7519), verified as RFC 8725 advises: the algorithms are bound to the
//! issuer's key, never taken from the token; `exp` must be there; `jku`, `x5u` and keys inside the
//! token are not looked at.

use std::path::Path;

use futures::future::join_all;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use sse_crds::auth::{Algorithm as Accepted, Auth};
use tokio_util::sync::CancellationToken;

use super::fetch::Source;
use super::remote::Remote;
use super::{Claims, Identity, Unauthorized};
use crate::nats::status::Problem;
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
    keys: Keys,
}

/// Where the keys of an issuer come from.
enum Keys {
    /// A shared secret (HS*).
    Shared(SecretFile),
    /// A public key in PEM.
    Pem { field: String, file: SecretFile },
    /// The issuer's key set.
    Set(Remote),
}

/// Why a JWT could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// The gateway lacks the key; the client is not to blame.
    #[error("the key of the issuer is missing: {0}")]
    Key(#[from] Missing),
    /// The secret holds something that is no key for the issuer's algorithms.
    #[error("the key can not be used")]
    BadKey,
    /// The issuer's keys could not be fetched.
    #[error("the keys of the issuer can not be fetched")]
    Unreachable,
}

impl Verifier {
    /// Takes the issuers. Key sets are fetched by [`keep_keys`](Self::keep_keys).
    #[must_use]
    pub fn new(auth: &Auth, secrets_dir: &Path) -> Self {
        let issuer = |(i, issuer): (usize, &sse_crds::auth::Issuer)| {
            let keys = match (&issuer.key_secret_ref, Source::new(i, issuer, secrets_dir)) {
                (Some(secret), _) => {
                    let field = format!("auth.issuers[{i}].keySecretRef");
                    let file = SecretFile::new(secrets_dir, field.clone(), secret.clone());
                    let symmetric = issuer.algorithms.iter().any(|a| a.is_symmetric());
                    if symmetric { Keys::Shared(file) } else { Keys::Pem { field, file } }
                }
                (None, Some(source)) => Keys::Set(Remote::new(format!("auth.issuers[{i}].jwksUri"), source)),
                (None, None) => return None,
            };
            Some(Issuer {
                name: issuer.issuer.clone(),
                audiences: issuer.audiences.clone(),
                algorithms: issuer.algorithms.iter().copied().map(algorithm).collect(),
                keys,
            })
        };
        let claims = Claims {
            user_id: auth.user_id_claims.clone(),
            tenant: auth.tenant_claim.clone(),
            default_tenant: auth.default_tenant.clone(),
            topics: auth.topics_claim.clone(),
            publish: auth.publish_claim.clone(),
            tags: auth.tag_claims.clone(),
        };
        Self { issuers: auth.issuers.iter().enumerate().filter_map(issuer).collect(), claims }
    }

    /// Fetches the key sets of the issuers that have one, and keeps them fresh, until `stop`.
    pub async fn keep_keys(&self, stop: &CancellationToken) {
        let remotes = self.issuers.iter().filter_map(Issuer::remote);
        join_all(remotes.map(|remote| stop.run_until_cancelled(remote.keep()))).await;
    }

    /// Whether the keys of at least one issuer are at hand. While an issuer is away its old keys
    /// serve, so this does not fall back to `false` because of an outage.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.issuers.iter().any(|issuer| match &issuer.keys {
            Keys::Shared(_) => true,
            Keys::Pem { file, .. } => file.load().is_ok_and(|content| issuer.reads(&content)),
            Keys::Set(remote) => remote.has_keys(),
        })
    }

    /// The issuers whose users can not connect: their keys were never fetched, or are none.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |issuer: &Issuer| match &issuer.keys {
            Keys::Set(remote) if !remote.has_keys() => remote.trouble().map(unreachable),
            Keys::Pem { field, file } if file.load().is_ok_and(|content| !issuer.reads(&content)) => {
                let message = format!("{field}: the secret holds no public key (PEM) for the algorithms");
                Some(Problem { reason: "KeyUnusable".into(), message })
            }
            _ => None,
        };
        self.issuers.iter().filter_map(problem).collect()
    }

    /// The issuers that are away while their old keys serve.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let remotes = self.issuers.iter().filter_map(Issuer::remote).filter(|remote| remote.has_keys());
        remotes.filter_map(Remote::trouble).map(unreachable).collect()
    }

    /// Verifies a JWT and reads the identity that it stands for.
    ///
    /// # Errors
    ///
    /// When the JWT is refused, or the issuer's key is not there.
    pub async fn verify(&self, jwt: &str) -> Result<Identity, VerifyError> {
        if jwt.len() > MAX_JWT {
            return Err(Unauthorized::Malformed.into());
        }
        let header = jsonwebtoken::decode_header(jwt).map_err(|_| Unauthorized::Malformed)?;
        // RFC 7515, 4.1.11: what is critical and not understood is refused; nothing is understood.
        if header.crit.is_some() {
            return Err(Unauthorized::Critical.into());
        }
        // Only to choose the key; every claim is read again after the signature was checked.
        let unverified = jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(jwt)
            .map_err(|_| Unauthorized::Malformed)?;
        let name = unverified.get("iss").and_then(Value::as_str);
        let issuer =
            self.issuers.iter().find(|i| Some(i.name.as_str()) == name).ok_or(Unauthorized::UnknownIssuer)?;
        if !issuer.algorithms.contains(&header.alg) {
            return Err(Unauthorized::Algorithm.into());
        }
        let key = issuer.decoding_key(header.alg, header.kid.as_deref()).await?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(jwt, &key, &issuer.validation(header.alg))
            .map_err(|error| refusal(error.kind()))?;
        let expires = decoded.claims.get("exp").and_then(Value::as_f64).ok_or(Unauthorized::Expired)?;
        // Whole seconds, as JWTs have them; a fraction is cut off.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let expires = expires as u64;
        Ok(self.claims.identity(&decoded.claims, expires)?)
    }
}

impl Issuer {
    fn remote(&self) -> Option<&Remote> {
        match &self.keys {
            Keys::Set(remote) => Some(remote),
            Keys::Shared(_) | Keys::Pem { .. } => None,
        }
    }

    /// Whether a PEM is a key for one of the algorithms.
    fn reads(&self, content: &[u8]) -> bool {
        self.algorithms.iter().any(|algorithm| pem(*algorithm, content).is_some())
    }

    /// The key for a token with this header, whose algorithm is one of the issuer's.
    async fn decoding_key(&self, algorithm: Algorithm, id: Option<&str>) -> Result<DecodingKey, VerifyError> {
        match &self.keys {
            Keys::Shared(file) => Ok(DecodingKey::from_secret(&file.load()?)),
            Keys::Pem { file, .. } => {
                let content = file.load()?;
                if let Some(key) = pem(algorithm, &content) {
                    return Ok(key);
                }
                // The key may be good, only not for what the token says.
                let good = self.reads(&content);
                Err(if good { Unauthorized::Algorithm.into() } else { VerifyError::BadKey })
            }
            Keys::Set(remote) => remote.find(algorithm, id).await,
        }
    }

    /// `algorithm` is the token's, and one of the issuer's: the key was chosen for it alone.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
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

fn unreachable(message: String) -> Problem {
    Problem { reason: "IssuerUnreachable".into(), message }
}

/// Reads a public key in PEM, if it is one for the algorithm.
fn pem(algorithm: Algorithm, content: &[u8]) -> Option<DecodingKey> {
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(content),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(content),
        _ => DecodingKey::from_rsa_pem(content),
    };
    key.ok()
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
