//! The decision: may the answer of a near neighbour be served?
//!
//! Stands after the search for nearest points and before a hit is replayed. Similarity alone cannot tell "order 7781"
//! from "order 7782" or "turn on" from "turn off"; the [guards](Guard) can. [`judge`] takes the candidates of one
//! partition, best first, and accepts the first that is similar enough and passes every guard.
//!
//! Invariants: pure functions of the texts and the cosines; the same verdict whichever text came first; a text agrees
//! with itself; doubt is a miss. It must never turn a miss into a hit, look beyond the candidates it was given, or fail.

mod dates;
mod direction;
mod entities;
mod extent;
mod features;
mod guard;
mod hidden;
mod language;
mod lexicon;
mod literals;
mod numbers;
mod polarity;
mod substitution;
mod text;
mod verdict;
mod words;

pub use features::Features;
pub use guard::{Finding, Guard, Guards, Objection, Opinion, UnknownGuard};
pub use text::normalise;
pub use verdict::{Reject, Verdict, judge};

#[cfg(test)]
mod adversarial;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
