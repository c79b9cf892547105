//! Whether two answers say the same: the one place where a replay decides it, for linking a prompt to a group and for
//! judging an audit. The same question that the product asks after a miss.
//!
//! Must never look at the intent: that is what the policies are judged by.

use crate::cache::decide::normalise;

/// Whether the answers are the same for whoever reads them. For now: equal after normalisation, as the product does for
/// short answers; answers in other words are not linked.
pub(super) fn same_answer(a: &str, b: &str) -> bool {
    a == b || normalise(a) == normalise(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_final_punctuation_make_no_other_answer_and_a_number_does() {
        assert!(same_answer("Allow 3 days.", "allow 3 days"));
        assert!(!same_answer("Allow 3 days.", "Allow 4 days."));
    }
}
