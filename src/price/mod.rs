//! What a request costs: the price book and the arithmetic.
//!
//! Money is whole nano-dollars and prices are whole nano-dollars for a million tokens, so that every sum is exact; a request is
//! rounded once, half to even. A model without a price is *unpriced*, which is not the same as free: what then happens is a
//! policy.

mod book;
mod check;
mod cost;
pub mod count;
mod file;
mod import;
mod rerate;
mod savings;

pub use book::{Listing, PriceBook};
pub use check::{Finding, check};
pub use cost::{Price, Rates};
pub use file::{PriceError, day_ms};
pub use import::{Imported, import};
pub use rerate::{Amounts, Rerate, Rerated, rerate};
pub use savings::PromptCache;

/// The tier of service that a provider bills by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Service {
    /// The usual one.
    #[default]
    Standard,
    /// Answers within hours.
    Batch,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority];

    /// What a provider calls `service_tier` in an answer; a name that is not known is the standard one. What may stand beside a
    /// tier in the ledger is read by [`Price::billed`].
    pub fn from_name(name: Option<&str>) -> Self {
        match name {
            Some("batch") => Self::Batch,
            Some("flex") => Self::Flex,
            Some("priority") => Self::Priority,
            _ => Self::Standard,
        }
    }

    /// Name in the ledger; the standard one has none there.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Standard => None,
            Self::Batch => Some("batch"),
            Self::Flex => Some("flex"),
            Self::Priority => Some("priority"),
        }
    }
}
