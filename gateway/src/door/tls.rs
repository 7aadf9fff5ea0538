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
    #[error("door.tls.{key} = {path:?}: {reason}")]
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

/// What is wrong with the files, a line each.
pub(crate) fn check(config: &TlsConfig) -> Vec<String> {
    let files = [
        certificates("certificate", &config.certificate).err(),
        private_key(&config.key).err(),
        authorities(&config.client_ca).err(),
    ];
    let wrong: Vec<String> = files.into_iter().flatten().map(|error| error.to_string()).collect();
    // Whether they fit each other can only be seen when each is one.
    if wrong.is_empty() { acceptor(config).err().map(|error| error.to_string()).into_iter().collect() } else { wrong }
}

/// What accepts TLS connections as `config` says.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates("certificate", &config.certificate)?;
    let key = private_key(&config.key)?;
    let roots = authorities(&config.client_ca)?;
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

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error("key", path, &error))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("client_ca", path)? {
        roots.add(authority).map_err(|error| file_error("client_ca", path, &error))?;
    }
    Ok(roots)
}

fn file_error(key: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { key, path: path.to_owned(), reason: reason.to_string() }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(key, path, &error))?;
    if certificates.is_empty() { Err(file_error(key, path, &"no certificate in it")) } else { Ok(certificates) }
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
