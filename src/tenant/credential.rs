//! Upstream credentials of tenants at rest: sealed with XChaCha20-Poly1305 and a random nonce.
//!
//! The key is derived from the secret that keys all hashes, which is no part of a database file; whoever has the database
//! alone has no credential. What is authenticated with it is whose it is, so that one tenant's credential does not open for
//! another. The first byte is the version of this form.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::call::SecretKey;
use crate::config::Secret;
use crate::ids::TenantId;

/// Version of the sealed form.
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals and opens credentials.
#[derive(Clone)]
pub struct SealKey(XChaCha20Poly1305);

/// A credential that has been opened, or that could not be.
#[derive(Clone)]
pub enum Unsealed {
    /// It.
    Open(Secret),
    /// It was sealed with another secret, or is damaged.
    Closed,
}

impl SealKey {
    /// Derives the key.
    pub fn new(secret: &SecretKey) -> Self {
        let key = Zeroizing::new(secret.digest("upstream credential seal", b""));
        Self(XChaCha20Poly1305::new(Key::from_slice(&*key)))
    }

    /// Seals a credential for a tenant.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal(&self, tenant: &TenantId, credential: &Secret) -> io::Result<Bytes> {
        let mut nonce = [0; NONCE];
        File::open("/dev/urandom")?.read_exact(&mut nonce)?;
        let payload = Payload { msg: credential.expose().as_bytes(), aad: &bound_to(tenant) };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| io::Error::other("the credential is too large to be sealed"))?;
        Ok([&[VERSION], &nonce[..], &sealed[..]].concat().into())
    }

    /// Opens what was sealed for this tenant.
    pub fn open(&self, tenant: &TenantId, sealed: &[u8]) -> Unsealed {
        self.opened(tenant, sealed).map_or(Unsealed::Closed, Unsealed::Open)
    }

    fn opened(&self, tenant: &TenantId, sealed: &[u8]) -> Option<Secret> {
        let (version, sealed) = sealed.split_first()?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        if *version != VERSION {
            return None;
        }
        let payload = Payload { msg: sealed, aad: &bound_to(tenant) };
        let clear = Zeroizing::new(self.0.decrypt(XNonce::from_slice(nonce), payload).ok()?);
        std::str::from_utf8(&clear).ok().map(|text| Secret::new(text.to_owned()))
    }
}

fn bound_to(tenant: &TenantId) -> Vec<u8> {
    [tenant.as_str().as_bytes(), b"|", &[VERSION]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_opens_for_its_tenant_with_its_secret_and_for_nobody_else() {
        let (acme, globex) = (TenantId::new("acme"), TenantId::new("globex"));
        let key = SealKey::new(&SecretKey::new([1; 32]));
        let sealed = key.seal(&acme, &Secret::new("sk-acme".to_owned())).unwrap();
        let other = SealKey::new(&SecretKey::new([2; 32]));
        assert!(matches!(key.open(&acme, &sealed), Unsealed::Open(secret) if secret.expose() == "sk-acme"));
        assert!(matches!(key.open(&globex, &sealed), Unsealed::Closed));
        assert!(matches!(other.open(&acme, &sealed), Unsealed::Closed));
        for at in 0..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 1;
            assert!(matches!(key.open(&acme, &damaged), Unsealed::Closed), "byte {at}");
        }
        assert!(!sealed.windows(4).any(|window| window == b"acme"), "sealed");
        assert_ne!(sealed, key.seal(&acme, &Secret::new("sk-acme".to_owned())).unwrap(), "a nonce is used once");
    }
}
