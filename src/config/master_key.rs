//! The key that wraps the data keys of sealed tenants.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A 256-bit key. Is never shown, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Reads 64 hexadecimal digits, or 32 bytes as base64. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = match blake3::Hash::from_hex(text) {
            Ok(hash) => Zeroizing::new(*hash.as_bytes()),
            Err(_) => {
                let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
                Zeroizing::new(<[u8; 32]>::try_from(decoded.as_slice()).ok()?)
            }
        };
        Some(Self(bytes))
    }

    /// The key itself, for the one place that wraps with it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which tenants are sealed: `[store] seal` and `seal_tenants`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seal {
    /// None.
    #[default]
    None,
    /// Those named.
    Tenants(Vec<String>),
    /// All, passthrough tenants included.
    All,
}

impl Seal {
    /// Whether this tenant is sealed.
    pub fn covers(&self, tenant: &str) -> bool {
        match self {
            Self::None => false,
            Self::Tenants(names) => names.iter().any(|name| name == tenant),
            Self::All => true,
        }
    }
}
