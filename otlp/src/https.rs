//! HTTP requests that nobody else made: to issuers, to the collector.
//!
//! The images need no certificates of their own: Mozilla's authorities are built in, and where a `caSecretRef` is
//! given that authority counts and no other. Redirects are not followed, answers are bounded.

use std::sync::Arc;

use reqwest::{Client, Response, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Longest answer, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Why there is no client, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    #[error("caSecretRef does not hold a certificate (PEM)")]
    Authority,
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{}", chain(.0))]
    Request(reqwest::Error),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
}

impl From<reqwest::Error> for HttpsError {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error.without_url())
    }
}

/// An error with what caused it: the outermost alone says little.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A client that trusts this authority (PEM), or the public ones.
///
/// # Errors
///
/// When the authority can not be read.
pub fn client(ca: Option<&[u8]>) -> Result<Client, HttpsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("sse-gateway/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, HttpsError> {
    let Some(ca) = ca else { return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.map_err(|_| HttpsError::Authority)?).map_err(|_| HttpsError::Authority)?;
    }
    if roots.is_empty() { Err(HttpsError::Authority) } else { Ok(roots) }
}

/// The body of an answer.
///
/// # Errors
///
/// When it does not come whole, or is too long.
pub async fn body(mut response: Response) -> Result<Vec<u8>, HttpsError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(HttpsError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
