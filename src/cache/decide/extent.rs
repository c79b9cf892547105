//! How much text there is: lengths out of proportion, and one prompt inside the other with something added.
//!
//! The second is the shape of a poisoned entry: a question somebody else will ask, followed by an instruction.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::lexicon::{INSTRUCTION, LANGUAGE_NAMES, LIGHT};

/// Longest over shortest, counting both all characters and those of words with a topic: "can you tell me" makes no
/// prompt another.
const MAX_RATIO: usize = 2;
/// Longest over shortest, counting all characters, whatever they are.
const MAX_WHOLE_RATIO: usize = 5;
/// Characters of words with a topic that do not count.
const SLACK: usize = 8;
/// Words with a topic that one text may have beyond a short one it contains: what is short leaves much unsaid.
const MAX_ADDED_TO_SHORT: usize = 3;
/// The same beyond a longer one, which stands for itself.
const MAX_ADDED: usize = 1;
/// Words with a topic up to which a text is short.
const SHORT: usize = 2;

/// Names of languages: added, they ask for another answer, however short.
static LANGUAGES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| LANGUAGE_NAMES.split_whitespace().collect());

static INSTRUCTS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| INSTRUCTION.split_whitespace().collect());

/// Why the lengths are out of proportion, if they are. Each is (characters of words with a topic, all characters).
pub(super) fn compare_lengths(a: (usize, usize), b: (usize, usize)) -> Option<String> {
    let exceeds = |x: usize, y: usize, ratio: usize| x.max(y) > x.min(y).saturating_mul(ratio);
    let topics = a.0.max(b.0) > (a.0.min(b.0)).saturating_mul(MAX_RATIO) + SLACK;
    let differ = (topics && exceeds(a.1, b.1, MAX_RATIO)) || exceeds(a.1, b.1, MAX_WHOLE_RATIO);
    differ.then(|| format!("{} / {} characters", a.1, b.1))
}

/// Words beyond a text that one holds as it stands, from which they are another sentence and no courtesy.
const APPENDED: usize = 5;

/// Words of the inner text from which it is a prompt, and not a word that may stand anywhere.
const REPEATED: usize = 3;

/// Words of courtesies, which make no sentence that matters.
const COURTESY: [&str; 18] = [
    "thank", "thanks", "you", "very", "much", "please", "in", "advance", "a", "lot", "so", "many", "kind", "best",
    "regards", "cheers", "hello", "hi",
];

/// Why one text is the other with a further sentence, if it is: the plainest shape of an injection, whatever the sentence
/// says. Takes canonical texts.
pub(super) fn compare_appended(a: &str, b: &str) -> Option<String> {
    let (inner, outer) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let (inner, outer) = (inner.to_lowercase(), outer.to_lowercase());
    let inner = inner.trim_matches(|c: char| c.is_whitespace() || is_stop(c));
    let (before, after) = outer.split_once(inner).filter(|_| inner.split_whitespace().count() >= REPEATED)?;
    let carries = |word: &&str| {
        word.chars().any(char::is_alphanumeric)
            && !COURTESY.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()))
    };
    let words = |part: &str| part.split_whitespace().filter(carries).count();
    let apart_before = before.trim_end().ends_with(is_stop) && words(before) >= APPENDED;
    let apart_after = after.trim_start().starts_with(is_stop) && words(after) >= APPENDED;
    let added = if apart_after { after } else { before };
    let shown =
        || added.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).take(6).collect::<Vec<_>>();
    (apart_before || apart_after).then(|| format!("adds {}", shown().join(" ")))
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | '?' | '!' | ':' | ';' | '…' | '。' | '？' | '！' | '؟' | '।')
}

/// Whether a word, in any case, belongs to an instruction to the model.
pub(super) fn instructs(word: &str) -> bool {
    INSTRUCTS.contains(word.to_lowercase().as_str())
}

/// Whether a word, in any case, adds nothing by itself.
pub(super) fn is_light(word: &str) -> bool {
    LIGHT.split_whitespace().any(|light| light.eq_ignore_ascii_case(word))
}

/// Why one text is the other with something added, if it is. `lacking`: words with a topic of the inner text that the
/// outer one lacks; `inner`: how many it has; `added`: those the outer text has beyond it.
pub(super) fn compare_containment(lacking: usize, inner: usize, added: &[&str]) -> Option<String> {
    // One word in five may be reworded: an attacker need not copy the question letter by letter.
    let contained = inner > 0 && lacking * 5 <= inner;
    let instruction = added.len() > 1 && added.iter().any(|word| instructs(word));
    let most = if inner <= SHORT { MAX_ADDED_TO_SHORT } else { MAX_ADDED.max(inner / 8) };
    let language = added.iter().any(|word| LANGUAGES.contains(word.to_lowercase().as_str()));
    (contained && (added.len() > most || instruction || language))
        .then(|| format!("adds {}", added.iter().take(6).copied().collect::<Vec<_>>().join(" ")))
}
