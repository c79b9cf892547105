//! A string that must not be seen.

use zeroize::Zeroizing;

/// A credential. Has no `Debug`, `Display` or `Serialize`, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a credential.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The credential itself, for the one place that sends or hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
