//! The cipher of sealed cells: XChaCha20-Poly1305 with a random nonce of 24 bytes for each cell.
//!
//! What is authenticated with a cell is what it is, whose it is and which row it belongs to, so that a cell that is moved
//! to another row, column or tenant does not open. Keys are wiped when they are dropped.
//!
//! It must never: reuse a nonce, tell why a cell does not open, or show a key.

use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as Bytes32, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::super::StoreError;
use crate::config::MasterKey;

/// Begins a sealed body. Its first byte is in no UTF-8 text, so no answer begins like it.
pub(super) const MAGIC: [u8; 4] = [0xF5, b'R', b'S', 1];
/// Begins a sealed prompt.
pub(super) const PREFIX: &str = "remora-sealed:1:";
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes by which a sealed body is longer than the clear one.
pub(super) const OVERHEAD: u64 = (MAGIC.len() + NONCE + TAG) as u64;
/// What the hash is made of that tells master keys and data keys apart.
const ID: &[u8] = b"remora key id 1";

/// What a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The body of an entry.
    Body = 1,
    /// Prompt, space and vector of a point.
    Point = 2,
    /// The prompt of a decision.
    Decision = 3,
    /// A wrapped data key.
    DataKey = 4,
}

/// Where a cell belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// Owner.
    pub(super) tenant: &'a str,
    /// The row.
    pub(super) id: [u8; 16],
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 8 + self.tenant.len() + 16);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&(self.tenant.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.tenant.as_bytes());
        bytes.extend_from_slice(&self.id);
        bytes
    }
}

/// A key, ready for use.
pub(super) struct Key {
    cipher: XChaCha20Poly1305,
    /// Tells it from other keys and gives nothing of it away.
    pub(super) id: String,
}

impl Key {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        let id = blake3::keyed_hash(bytes, ID).to_hex().chars().take(16).collect();
        Self { cipher: XChaCha20Poly1305::new(Bytes32::from_slice(bytes)), id }
    }

    pub(super) fn of(master: &MasterKey) -> Self {
        Self::new(master.expose())
    }

    /// Nonce, ciphertext and tag.
    pub(super) fn seal(&self, place: Place<'_>, clear: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE] = random()?;
        let payload = Payload { msg: clear, aad: &place.bytes() };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| StoreError::Failed("a cell is too large to be sealed".into()))?;
        Ok([&nonce[..], &sealed[..]].concat())
    }

    /// What was sealed for this place. `None` with another key, for another place, or if a bit has changed.
    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
    }
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| bytes).map_err(|error| StoreError::Failed(error.into()))
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
