//! In how many words two prompts differ, once misspellings and synonyms are paired off.
//!
//! Part of a decision where no answer group speaks for the candidate: then the words alone must. The commonest trap is one
//! topic word exchanged for another ("delete a message" / "delete my account"), which looks exactly like a synonym to an
//! encoder; so a lone exchange is trusted only if both words are listed as meaning the same, or nearly.
//!
//! Pure and symmetric. It must never call two texts the same because one of them could not be read.

use super::features::{Features, Form, Reading};
use super::substitution::{Topic, same};

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

/// Words of each text that are compared; beyond, the texts are reworded anyway.
const MOST: usize = 12;

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

/// The words of one text that the other lacks.
fn only<'a>(own: &[Topic<'a>], other: &[Topic<'_>]) -> Vec<Topic<'a>> {
    own.iter().filter(|word| !other.iter().any(|o| o.stem == word.stem)).cloned().collect()
}

fn between(new: &Reading, stored: &Reading) -> Difference {
    let (all_mine, all_theirs) = (new.topic_words(), stored.topic_words());
    if all_mine.len() > MOST * 4 || all_theirs.len() > MOST * 4 {
        return Difference::Reworded;
    }
    let (mut mine, mut theirs) = (only(&all_mine, &all_theirs), only(&all_theirs, &all_mine));
    if mine.len() > MOST || theirs.len() > MOST {
        return Difference::Reworded;
    }
    mine.retain(|word| match theirs.iter().position(|other| same(word, other)) {
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
            ("walk the dog", "walk the cat", Difference::Exchanged),
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
}
