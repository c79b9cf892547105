//! The text of virtual keys and admin tokens: made, and read back.
//!
//! ```text
//! rk-  3fXk90Qa  7bW…43 characters…  0A9zQk
//! kind public id  256 random bits      checksum of all before
//! ```
//!
//! All in base 62, so that a double click selects the whole of it. The public id is how a key is found and what people may
//! see; the secret part is never stored, only a keyed hash of the whole text. A fast hash is right for it, because nobody can
//! guess 256 bits. The checksum tells a mistyped key from a revoked one, and a leaked key from any other text for programs
//! that look for such.

use std::fs::File;
use std::io::{self, Read as _};

use zeroize::Zeroizing;

use crate::config::Secret;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of the public id.
const ID: usize = 8;
/// Characters of the secret part: the fewest that hold 256 bits.
const SECRET: usize = 43;
/// Characters of the checksum: the fewest that hold 32 bits.
const CHECK: usize = 6;

/// What a text is a key to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The data plane.
    Key,
    /// The admin plane.
    Token,
}

impl Kind {
    /// How the text begins.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Key => "rk-",
            Self::Token => "ra-",
        }
    }

    /// Keeps the hashes of both apart.
    pub(super) fn domain(self) -> &'static str {
        match self {
            Self::Key => "virtual key",
            Self::Token => "admin token",
        }
    }
}

/// A new key.
pub struct Minted {
    /// The public part.
    pub id: String,
    /// The whole text; to be shown once.
    pub secret: Secret,
}

/// A text that is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The public part.
    pub id: &'a str,
}

/// Why a text is no key of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// It is something else altogether.
    Foreign,
    /// It looks like one, but characters are missing or wrong.
    Mistyped,
}

/// Makes a key.
///
/// # Errors
/// When the system has no randomness to give.
pub fn mint(kind: Kind) -> io::Result<Minted> {
    let mut source = File::open("/dev/urandom")?;
    let mut random = Zeroizing::new([0; 32]);
    source.read_exact(&mut *random)?;
    let mut seed = [0; 8];
    source.read_exact(&mut seed)?;
    // 62^8 divides 2^64 unevenly, but no id is more likely than another by more than one in 80,000.
    let id = base62(&seed, ID);
    let mut text = Zeroizing::new(String::with_capacity(kind.prefix().len() + ID + SECRET + CHECK));
    text.push_str(kind.prefix());
    text.push_str(&id);
    text.push_str(&Zeroizing::new(base62(&*random, SECRET)));
    let check = checksum(&text);
    text.push_str(&check);
    Ok(Minted { id, secret: Secret::new(text.to_string()) })
}

/// Reads a key. Says nothing about whether it is known.
///
/// # Errors
/// Why it is none.
pub fn parse(kind: Kind, text: &str) -> Result<Parsed<'_>, Mistake> {
    let rest = text.strip_prefix(kind.prefix()).ok_or(Mistake::Foreign)?;
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Mistake::Foreign);
    }
    let whole = rest.len() == ID + SECRET + CHECK;
    let (body, check) = text.split_at_checked(text.len().saturating_sub(CHECK)).ok_or(Mistake::Mistyped)?;
    match rest.get(..ID) {
        Some(id) if whole && checksum(body) == check => Ok(Parsed { id }),
        _ => Err(Mistake::Mistyped),
    }
}

fn checksum(text: &str) -> String {
    base62(&crc32fast::hash(text.as_bytes()).to_be_bytes(), CHECK)
}

/// The last `length` digits of a big-endian number.
fn base62(bytes: &[u8], length: usize) -> String {
    let mut number = Zeroizing::new(bytes.to_vec());
    let mut digits = Zeroizing::new(Vec::with_capacity(length));
    for _ in 0..length {
        let mut rest = 0;
        for byte in number.iter_mut() {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            rest = value % 62;
        }
        let digit = usize::try_from(rest).ok().and_then(|rest| DIGITS.get(rest)).copied().unwrap_or_default();
        digits.push(char::from(digit));
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_reads_back_and_no_two_are_alike() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in [Kind::Key, Kind::Token] {
            for _ in 0..200 {
                let minted = mint(kind).unwrap();
                let text = minted.secret.expose();
                assert_eq!(text.len(), 3 + 8 + 43 + 6, "{text}");
                assert_eq!(parse(kind, text).unwrap().id, minted.id);
                assert!(seen.insert(minted.id));
            }
        }
        let token = mint(Kind::Token).unwrap();
        assert_eq!(parse(Kind::Key, token.secret.expose()), Err(Mistake::Foreign));
    }

    #[test]
    fn base_62_is_the_number_in_that_base() {
        assert_eq!(base62(&[0, 0], 3), "000");
        assert_eq!(base62(&61_u32.to_be_bytes(), 2), "0z");
        assert_eq!(base62(&62_u32.to_be_bytes(), 2), "10");
        assert_eq!(base62(&u32::MAX.to_be_bytes(), CHECK), "4gfFC3");
        // 2^256 - 1 has 43 digits.
        assert_ne!(base62(&[255; 32], SECRET).as_bytes()[0], b'0');
    }

    proptest! {
        /// A CRC finds every single wrong character and every swap of neighbours.
        #[test]
        fn one_slip_of_the_pen_is_told_as_such(at in 3_usize..60, with in 0_usize..62, swap: bool) {
            let minted = mint(Kind::Key).unwrap();
            let mut text = minted.secret.expose().as_bytes().to_vec();
            let before = text.clone();
            if swap && at + 1 < text.len() { text.swap(at, at + 1) } else { text[at] = DIGITS[with] }
            prop_assume!(text != before);
            prop_assert_eq!(parse(Kind::Key, std::str::from_utf8(&text).unwrap()), Err(Mistake::Mistyped));
        }

        #[test]
        fn what_is_cut_or_longer_is_told_as_such(length in 3_usize..60, more in "[0-9A-Za-z]{1,10}") {
            let minted = mint(Kind::Key).unwrap();
            let text = minted.secret.expose();
            prop_assert_eq!(parse(Kind::Key, &text[..length]), Err(Mistake::Mistyped));
            let longer = format!("{text}{more}");
            prop_assert_eq!(parse(Kind::Key, &longer), Err(Mistake::Mistyped));
        }

        #[test]
        fn any_text_is_read_without_harm(text in ".{0,80}") {
            prop_assert!(parse(Kind::Key, &text).is_err());
            let prefixed = format!("rk-{text}");
            prop_assert!(parse(Kind::Key, &prefixed).is_err());
        }
    }
}
