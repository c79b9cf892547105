//! Names of the keys: `remora:1:{SPACE:DIGEST}:v` for a value and `…:l` for its lease.
//!
//! `1` is the version of everything that is kept under the name, `SPACE` the first eight hex digits of the space, `DIGEST`
//! the key. What stands in braces decides the slot in a cluster, so the keys of one digest lie together (scripts work on
//! both) and digests spread over all nodes. Counters have names of the same form, with a tag in the place of a digest.

use std::fmt::Write as _;

use crate::store::Digest;

/// Makes the names of one space.
pub(super) struct Names {
    /// As in `remora:1:{0a1b2c3d`.
    start: String,
}

impl Names {
    pub(super) fn of(space: &Digest) -> Self {
        Self { start: format!("remora:1:{{{}", hex(space.get(..4).unwrap_or_default())) }
    }

    /// Where the value of `key` is kept.
    pub(super) fn value(&self, key: &Digest) -> String {
        format!("{}:{}}}:v", self.start, hex(key))
    }

    /// Where it is kept who fetches the value of `key`.
    pub(super) fn lease(&self, key: &Digest) -> String {
        format!("{}:{}}}:l", self.start, hex(key))
    }

    /// The channel of wake-ups.
    pub(super) fn channel(&self) -> String {
        format!("{}}}:wake", self.start)
    }

    /// A key of another kind: `remora:1:{SPACE:TAG}:NAME`. All keys of one tag lie together.
    pub(super) fn tagged(&self, tag: &str, name: &str) -> String {
        format!("{}:{tag}}}:{name}", self.start)
    }

    /// A pattern that only the keys of this space match, for tests.
    #[cfg(test)]
    pub(super) fn pattern(&self) -> String {
        format!("{}:*", self.start)
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_digest_have_one_hash_tag_and_digests_have_different_ones() {
        let names = Names::of(&[0xab; 32]);
        let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
        assert_eq!(tag(&names.value(&[1; 32])), tag(&names.lease(&[1; 32])));
        assert_ne!(tag(&names.value(&[1; 32])), tag(&names.value(&[2; 32])));
        assert!(names.value(&[1; 32]).starts_with("remora:1:{abababab:0101"));
        assert_ne!(Names::of(&[0xac; 32]).value(&[1; 32]), names.value(&[1; 32]));
    }
}
