//! What is put around a value: a version byte and a checksum.
//!
//! The checksum is keyed by the space and covers the key as well as the value. So bytes that were cut, changed, written
//! by another version or by a program with another secret, or that belong to another key, are not taken for an answer.

use bytes::Bytes;

use crate::store::Digest;

/// Changes whenever the form below does.
const VERSION: u8 = 1;
/// Bytes of the checksum.
const TAG: usize = 16;

/// Seals and opens the values of one space.
pub(super) struct Seal {
    secret: [u8; 32],
}

impl Seal {
    pub(super) fn of(space: &Digest) -> Self {
        Self { secret: blake3::derive_key("remora 2026 shared value", space) }
    }

    /// Version, checksum, value.
    pub(super) fn close(&self, key: &Digest, value: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(1 + TAG + value.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.tag(key, value));
        sealed.extend_from_slice(value);
        sealed
    }

    /// The value, without copying it; `None` if it is not what [`Seal::close`] made for this key.
    pub(super) fn open(&self, key: &Digest, sealed: Vec<u8>) -> Option<Bytes> {
        let sealed = Bytes::from(sealed);
        let (version, rest) = sealed.split_first()?;
        let (tag, value) = rest.split_at_checked(TAG)?;
        (*version == VERSION && tag == self.tag(key, value)).then(|| sealed.slice(1 + TAG..))
    }

    fn tag(&self, key: &Digest, value: &[u8]) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(key);
        hasher.update(value);
        let mut tag = [0; TAG];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_closed_opens_and_any_change_of_it_does_not(
            value in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8
        ) {
            let seal = Seal::of(&[7; 32]);
            let sealed = seal.close(&[1; 32], &value);
            prop_assert_eq!(seal.open(&[1; 32], sealed.clone()), Some(Bytes::from(value)));
            prop_assert_eq!(seal.open(&[2; 32], sealed.clone()), None);
            prop_assert_eq!(Seal::of(&[8; 32]).open(&[1; 32], sealed.clone()), None);
            let place = at.index(sealed.len());
            let mut flipped = sealed.clone();
            flipped[place] ^= 1 << bit;
            prop_assert_eq!(seal.open(&[1; 32], flipped), None);
            prop_assert_eq!(seal.open(&[1; 32], sealed[..place].to_vec()), None);
        }
    }
}
