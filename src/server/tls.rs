//! TLS certificates from PEM files, exchanged while the listener runs.
//!
//! The files are read every second and compared by digest, because some tools replace files without a newer
//! modification time. Files that cannot be used change nothing; the reason is logged once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config;

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the path and that this user may read the file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No usable certificate in the file.
    #[error("{}: no certificate found ({reason}); expected PEM, the leaf first, then its chain", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the PEM reader found.
        reason: String,
    },
    /// No usable private key in the file.
    #[error("{}: no private key found ({reason}); expected one PEM key without a passphrase", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What the PEM reader found.
        reason: String,
    },
    /// The two do not go together, or are of a kind that is not supported.
    #[error("{} and {} cannot be used together: {source}", cert.display(), key.display())]
    Pair {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// The certificate in use.
pub(super) struct Certificate {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
    every: Duration,
    /// Of the files that were looked at last, good or bad.
    seen: blake3::Hash,
}

struct Files {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl Certificate {
    /// Reads and checks the files.
    pub(super) fn load(files: &config::Tls) -> Result<Self, TlsError> {
        let found = read(files)?;
        let current = ArcSwap::new(server_config(files, &found)?);
        Ok(Self { files: files.clone(), current, every: Duration::from_secs(1), seen: digest(&found) })
    }

    /// The same, looking for new files at another pace.
    #[cfg(test)]
    pub(super) fn checked_every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// For the next handshake.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Follows the files for as long as it is polled.
    pub(super) async fn follow_files(&self) {
        let mut seen = self.seen;
        let mut unreadable = false;
        loop {
            tokio::time::sleep(self.every).await;
            let files = self.files.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || read(&files)).await else { continue };
            match found {
                Ok(found) => {
                    unreadable = false;
                    let now = digest(&found);
                    if std::mem::replace(&mut seen, now) != now {
                        self.exchange(&found);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::warn!(%error, "TLS certificate kept: the files cannot be read");
                    }
                }
            }
        }
    }

    fn exchange(&self, found: &Files) {
        match server_config(&self.files, found) {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(cert = %self.files.cert.display(), "TLS certificate exchanged");
            }
            Err(error) => tracing::warn!(%error, "TLS certificate kept: the new files cannot be used"),
        }
    }
}

fn read(files: &config::Tls) -> Result<Files, TlsError> {
    let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    Ok(Files { cert: read(&files.cert)?, key: read(&files.key)?.into() })
}

fn digest(files: &Files) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(&files.cert).as_bytes());
    hasher.update(blake3::hash(&files.key).as_bytes());
    hasher.finalize()
}

fn server_config(files: &config::Tls, found: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let bad_cert = |reason: String| TlsError::Certificate { path: files.cert.clone(), reason };
    let chain = CertificateDer::pem_slice_iter(&found.cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_cert(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_cert("the file has no CERTIFICATE section".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&found.key)
        .map_err(|error| TlsError::Key { path: files.key.clone(), reason: error.to_string() })?;
    let pair = |source| TlsError::Pair { cert: files.cert.clone(), key: files.key.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
