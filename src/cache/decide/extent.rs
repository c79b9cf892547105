//! How much text there is: lengths out of proportion, and one prompt inside the other with something added.
//!
//! The second is the shape of a poisoned entry: a question somebody else will ask, followed by an instruction.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::lexicon::INSTRUCTION;

/// Longest text over shortest, in characters.
const MAX_RATIO: usize = 2;
/// Words with a topic that one text may have beyond another it contains.
const MAX_ADDED: usize = 3;

static INSTRUCTS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| INSTRUCTION.split_whitespace().collect());

/// Why the lengths (in characters) are out of proportion, if they are.
pub(super) fn compare_lengths(a: usize, b: usize) -> Option<String> {
    let (long, short) = (a.max(b), a.min(b));
    (long > short.saturating_mul(MAX_RATIO)).then(|| format!("{a} / {b} characters"))
}

/// Whether a word belongs to an instruction to the model.
pub(super) fn instructs(folded: &str) -> bool {
    INSTRUCTS.contains(folded)
}

/// Why one text is the other with something added, if it is. `lacking`: words with a topic of the inner text that the
/// outer one lacks; `inner`: how many it has; `added`: those the outer text has beyond it.
pub(super) fn compare_containment(lacking: usize, inner: usize, added: &[&str]) -> Option<String> {
    // One word in five may be reworded: an attacker need not copy the question letter by letter.
    let contained = inner > 0 && lacking * 5 <= inner;
    let instruction = added.len() > 1 && added.iter().any(|word| instructs(word));
    (contained && (added.len() > MAX_ADDED || instruction))
        .then(|| format!("adds {}", added.iter().take(6).copied().collect::<Vec<_>>().join(" ")))
}
