//! In how many words two prompts differ, once misspellings and synonyms are paired off.
//!
//! Part of a decision where no answer group speaks for the candidate: then the words alone must. The commonest trap is one
//! topic word exchanged for another ("delete a message" / "delete my account"), which looks exactly like a synonym to an
//! encoder; so a lone exchange is trusted only if both words are listed as meaning the same, or nearly.
//!
//! Pure and symmetric. It must never call two texts the same because one of them could not be read.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::features::{Features, Form, Reading};
use super::words::stem;

/// How the topic words of two prompts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// Not at all, or only by misspellings and synonyms.
    None,
    /// One has words that the other lacks, and not the other way round.
    Added,
    /// One word of each stands against one of the other.
    Exchanged,
    /// More than that: another sentence.
    Reworded,
    /// One of them is too long to be read.
    Unknown,
}

/// Words that mean the same in everyday questions: a line is a group; `_` joins two words.
const SYNONYMS: &str = include_str!("synonyms.txt");
/// Words of each text that are compared; beyond, the texts are reworded anyway.
const MOST: usize = 12;
/// Letters from which two, and not one, may be wrong in a word.
const LONG_WORD: usize = 8;
/// Letters below which no misspelling is assumed: too many short words lie one letter apart.
const SHORT_WORD: usize = 5;

/// The groups a stem belongs to.
static GROUPS: LazyLock<HashMap<String, Vec<u16>>> = LazyLock::new(|| {
    let mut groups: HashMap<String, Vec<u16>> = HashMap::new();
    for (group, line) in (0_u16..).zip(SYNONYMS.lines()) {
        for word in line.split_whitespace() {
            // Of a phrase, the first word carries the meaning once the particle, a stop word, is gone.
            let first = word.split('_').next().unwrap_or(word);
            groups.entry(stem(first).into_owned()).or_default().push(group);
        }
    }
    groups
});

impl Difference {
    /// All values.
    pub const ALL: [Self; 5] = [Self::None, Self::Added, Self::Exchanged, Self::Reworded, Self::Unknown];

    /// Name in explanations and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Added => "added",
            Self::Exchanged => "exchanged",
            Self::Reworded => "reworded",
            Self::Unknown => "unknown",
        }
    }

    /// How two prompts differ.
    pub fn between(new: &Features, stored: &Features) -> Self {
        match (&new.0, &stored.0) {
            (Form::Read(a), Form::Read(b)) if a.text == b.text => Self::None,
            (Form::Read(a), Form::Read(b)) => between(a, b),
            (Form::TooLong(a), Form::TooLong(b)) if a == b => Self::None,
            _ => Self::Unknown,
        }
    }
}

fn between(new: &Reading, stored: &Reading) -> Difference {
    let (only_new, only_stored) = new.differing(stored);
    let mut mine: Vec<&str> = only_new.iter().filter(|w| new.has_topic(**w)).map(|w| new.stem(*w)).collect();
    let mut theirs: Vec<&str> = only_stored.iter().filter(|w| stored.has_topic(**w)).map(|w| stored.stem(*w)).collect();
    if mine.len() > MOST || theirs.len() > MOST {
        return Difference::Reworded;
    }
    mine.retain(|word| match theirs.iter().position(|other| is_alike(word, other)) {
        Some(at) => {
            theirs.remove(at);
            false
        }
        None => true,
    });
    match (mine.len(), theirs.len()) {
        (0, 0) => Difference::None,
        (0, _) | (_, 0) => Difference::Added,
        (1, 1) => Difference::Exchanged,
        _ => Difference::Reworded,
    }
}

/// Whether two stems are spellings of one word, or synonyms.
fn is_alike(a: &str, b: &str) -> bool {
    is_misspelt(a, b) || {
        let groups = |word| GROUPS.get(word).map_or(&[][..], Vec::as_slice);
        groups(a).iter().any(|group| groups(b).contains(group))
    }
}

/// One letter wrong, missing, added or exchanged with its neighbour; two in a long word. A word with a digit is never
/// misspelt, and the first letter is the one that people get right.
fn is_misspelt(a: &str, b: &str) -> bool {
    let digits = |word: &str| word.chars().any(char::is_numeric);
    let shorter = a.chars().count().min(b.chars().count());
    if shorter < SHORT_WORD || a.chars().next() != b.chars().next() || digits(a) || digits(b) {
        return false;
    }
    strsim::osa_distance(a, b) <= if shorter < LONG_WORD { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_the_words_that_have_no_counterpart() {
        let rows = [
            ("How do I reset my password?", "how can I reset my password please", Difference::None),
            ("reset my password", "change my password", Difference::None),
            ("is there an electricity rebate", "is there an electricty rebate", Difference::None),
            ("what does the warranty cover", "what does the extended warranty cover", Difference::Added),
            ("how do I delete a message", "how do I delete an account", Difference::Exchanged),
            ("does the pad thai contain peanuts", "does the curry contain peanuts", Difference::Reworded),
            ("which plan has gym access", "which plan has pool access", Difference::Exchanged),
            ("open an account", "why was my transfer declined", Difference::Reworded),
            ("gate B12345", "gate B12346", Difference::Exchanged),
            ("walk the dog", "walk the dig", Difference::Exchanged),
            ("", "", Difference::None),
        ];
        for (a, b, expected) in rows {
            let (one, other) = (Features::of(a), Features::of(b));
            assert_eq!(Difference::between(&one, &other), expected, "{a:?} / {b:?}");
            assert_eq!(Difference::between(&other, &one), expected, "{b:?} / {a:?}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_differs_in_an_unknown_way() {
        let long = Features::of(&"The quick brown fox. ".repeat(50_000));
        assert_eq!(Difference::between(&long, &Features::of("fox")), Difference::Unknown);
        assert_eq!(Difference::between(&long, &long), Difference::None);
    }

    #[test]
    fn no_two_synonyms_exclude_each_other() {
        for line in SYNONYMS.lines() {
            let words: Vec<&str> = line.split_whitespace().filter(|word| !word.contains('_')).collect();
            for (a, b) in words.iter().flat_map(|a| words.iter().map(move |b| (a, b))) {
                let others: Vec<_> =
                    super::super::Guard::ALL.into_iter().filter(|g| g.as_str() != "antonyms").collect();
                let only = super::super::Guards::without(&others);
                assert_eq!(only.check(&Features::of(a), &Features::of(b)), Ok(()), "{a} / {b}");
            }
        }
    }
}
