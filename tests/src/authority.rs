//! An authority made for one test: certificates for servers on loopback, and clients that trust it alone.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name in every certificate.
pub const NAME: &str = "127.0.0.1";

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key (PEM).
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate that has its issuer's name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A new certificate.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn pair(&self) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &self.0)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A client that trusts this authority, and speaks this protocol within TLS.
    ///
    /// # Errors
    ///
    /// When the library has no TLS.
    pub fn client(&self, protocol: &str) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}

impl Pair {
    /// A server with this certificate.
    ///
    /// # Errors
    ///
    /// When the pair is not one.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}
