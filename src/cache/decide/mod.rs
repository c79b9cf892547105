//! The decision: may the answer of a near neighbour be served?
//!
//! Stands after the search for nearest points and before a hit is replayed. Similarity alone cannot tell "order 7781"
//! from "order 7782" or "turn on" from "turn off"; the [guards](Guard) can. [`judge`] takes the candidates of one
//! partition, best first, and accepts the first that is similar enough and passes every guard.
//!
//! Invariants: pure functions of the texts and the cosines; the same verdict whichever text came first; a text agrees
//! with itself; doubt is a miss. It must never turn a miss into a hit, look beyond the candidates it was given, or fail.

mod dates;
mod difference;
mod direction;
mod entities;
mod evidence;
mod extent;
mod features;
mod guard;
mod hidden;
mod interval;
mod language;
mod learner;
mod lexicon;
mod literals;
mod numbers;
mod polarity;
mod state;
mod substitution;
mod text;
mod verdict;
mod weights;
mod words;

pub use difference::Difference;
pub use evidence::{Evidence, GuardSet, INPUT_NAMES, INPUTS, Inputs, Near, WAIVED_FROM, Waivers, waives, weigh};
pub use features::Features;
pub use guard::{Finding, Guard, Guards, Objection, Opinion, UnknownGuard};
pub use interval::{Interval, Z95, Z99};
pub use learner::{Judgement, Learner, Lesson, Source, Stage, Turn};
pub use state::{BadState, Saved};
pub use text::normalise;
pub use verdict::{Reject, Verdict, judge};
pub use weights::{Observation, Weights, WeightsError, WeightsFile};

#[cfg(test)]
mod adversarial;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
