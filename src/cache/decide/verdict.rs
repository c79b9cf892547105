//! From candidates to a verdict: the last step of a decision, and the names under which its outcome is counted.
//!
//! Sees only the candidates of one partition, with their cosines. It must never accept one below the floor or one that a
//! guard refused.

use super::features::Features;
use super::guard::{Guard, Guards};

/// Whether a candidate's answer may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Accept,
    /// It may not.
    Reject(Reject),
}

/// Why no candidate's answer may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// There is no candidate.
    NoNeighbour,
    /// Every candidate is less similar than the floor.
    BelowThreshold,
    /// This guard objected to the best candidate, and some guard to each further one.
    Guard(Guard),
    /// Nothing but the words speaks for the candidate, and they differ too much.
    Words,
    /// Its answer is not likely enough to be right, for the error budget.
    LowProbability,
    /// The error budget is zero, or broken: only equal requests are served.
    ErrorBudget,
    /// Only one writer vouches for the answer, and it is not the one who asks.
    OneWriter,
}

impl Reject {
    /// The name in logs, metrics and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNeighbour => "no_neighbour",
            Self::BelowThreshold => "below_threshold",
            Self::Words => "words_differ",
            Self::LowProbability => "low_probability",
            Self::ErrorBudget => "error_budget",
            Self::OneWriter => "one_writer",
            Self::Guard(Guard::Numbers) => "guard_numbers",
            Self::Guard(Guard::Dates) => "guard_dates",
            Self::Guard(Guard::Negation) => "guard_negation",
            Self::Guard(Guard::Antonyms) => "guard_antonyms",
            Self::Guard(Guard::Entities) => "guard_entities",
            Self::Guard(Guard::Direction) => "guard_direction",
            Self::Guard(Guard::Length) => "guard_length",
            Self::Guard(Guard::Language) => "guard_language",
            Self::Guard(Guard::Containment) => "guard_containment",
            Self::Guard(Guard::Substitution) => "guard_substitution",
        }
    }
}

impl Verdict {
    /// `accept`, or the name of the reason against it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject(reject) => reject.as_str(),
        }
    }
}

/// Takes the first candidate whose cosine is at least `floor` and to which no guard objects. Candidates come best first;
/// the index is the place in that order. A cosine that is not a number counts as below any floor.
///
/// A candidate that a guard refuses does not stop the next: where "order 7781" and "order 7782" are both stored, the
/// wrong one may well rank above the exact repeat of a question for the other. Every candidate passes the same floor and
/// the same guards, so the next one is no weaker a hit than if the first had never been stored.
pub fn judge<'a>(
    candidates: impl Iterator<Item = (f32, &'a Features)>,
    new: &Features,
    floor: f32,
    guards: Guards,
) -> (Option<usize>, Verdict) {
    let mut reject = Reject::NoNeighbour;
    for (index, (cosine, candidate)) in candidates.enumerate() {
        if cosine < floor || cosine.is_nan() {
            if reject == Reject::NoNeighbour {
                reject = Reject::BelowThreshold;
            }
            continue;
        }
        match guards.check(new, candidate) {
            Ok(()) => return (Some(index), Verdict::Accept),
            Err(objection) if !matches!(reject, Reject::Guard(_)) => reject = Reject::Guard(objection.guard),
            Err(_) => {}
        }
    }
    (None, Verdict::Reject(reject))
}

#[cfg(test)]
mod tests {
    use super::super::UnknownGuard;
    use super::*;

    #[test]
    fn the_best_candidate_that_passes_is_accepted_and_otherwise_the_first_reason_counts() {
        let texts = ["order 7781", "order 7782", "order 7783"].map(Features::of);
        let new = Features::of("order 7782");
        let judged = |cosines: &[f32], floor| judge(cosines.iter().copied().zip(&texts), &new, floor, Guards::all());
        assert_eq!(judged(&[0.99, 0.98], 0.9), (Some(1), Verdict::Accept));
        assert_eq!(judged(&[0.99, 0.89], 0.9), (None, Verdict::Reject(Reject::Guard(Guard::Numbers))));
        assert_eq!(judged(&[0.89, 0.88], 0.9), (None, Verdict::Reject(Reject::BelowThreshold)));
        assert_eq!(judged(&[f32::NAN, 0.9], 0.9), (Some(1), Verdict::Accept));
        assert_eq!(judged(&[f32::NAN, f32::NAN], 0.0), (None, Verdict::Reject(Reject::BelowThreshold)));
        assert_eq!(judged(&[], 0.9), (None, Verdict::Reject(Reject::NoNeighbour)));
    }

    #[test]
    fn names_of_guards_and_rejections_round_trip_and_differ() {
        for guard in Guard::ALL {
            assert_eq!(guard.as_str().parse(), Ok(guard));
            assert_eq!(Reject::Guard(guard).as_str(), format!("guard_{guard}"));
        }
        assert_eq!("numbres".parse::<Guard>(), Err(UnknownGuard("numbres".to_owned())));
        assert_eq!(Verdict::Reject(Reject::NoNeighbour).as_str(), "no_neighbour");
        assert_eq!(Verdict::Reject(Reject::BelowThreshold).as_str(), "below_threshold");
    }
}
