//! TLS with client certificates, and the name in a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::config::TlsConfig;

/// TLS files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or holds no PEM of its kind.
    #[error("door.tls.{key} {path}: {reason}")]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Files that do not fit each other.
    #[error("door.tls: {0}")]
    Unusable(String),
}

/// What accepts TLS connections as `config` says.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates("certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| TlsError::File {
        key: "key",
        path: config.key.clone(),
        reason: error.to_string(),
    })?;
    let mut roots = RootCertStore::empty();
    for authority in self::certificates("client_ca", &config.client_ca)? {
        roots.add(authority).map_err(|error| TlsError::File {
            key: "client_ca",
            path: config.client_ca.clone(),
            reason: error.to_string(),
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Unusable(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file_error = |reason| TlsError::File { key, path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(error.to_string()))?;
    if certificates.is_empty() { Err(file_error("no certificate in it".to_owned())) } else { Ok(certificates) }
}

/// Who a certificate is for: its common name, or else its first DNS name.
pub(crate) fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()).map(str::to_owned);
    common.or_else(|| {
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
    })
}
