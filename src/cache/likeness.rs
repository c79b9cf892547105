//! Do two answers say the same?
//!
//! Asked in the background when a fresh answer has come: whether its prompt may be linked to a near answer group, and
//! whether the group's answer would have been right. A wrong link costs more than a missed one, and a wrong label more
//! than none, so there is a third verdict for what cannot be told.
//!
//! It must never call two answers the same that differ in a number, a name, a negation or their language.

use super::decide::{Difference, Features, Guard, Guards, normalise};
use crate::embed::Embedder;

/// What came of comparing two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// They say the same: a prompt of one may be answered with the other.
    Same,
    /// It cannot be told.
    Unsure,
    /// They say different things.
    Different,
}

/// Words up to which an answer is short: then it is its wording that counts.
const SHORT: usize = 8;
/// Cosine from which two longer answers that no guard tells apart say the same.
const SAME: f32 = 0.90;
/// Cosine below which they do not.
const DIFFERENT: f32 = 0.60;
/// Longer over shorter, from which two answers cannot say the same.
const MOST_RATIO: usize = 2;

impl Likeness {
    /// Compares two answers. Embeds them only if their words do not decide. An embedder that fails makes it
    /// [`Likeness::Unsure`].
    pub async fn of(fresh: &str, stored: &str, embedder: &Embedder, owner: &str) -> Self {
        match by_words(fresh, stored) {
            Some(verdict) => verdict,
            None => match (embedder.embed_for(owner, fresh).await, embedder.embed_for(owner, stored).await) {
                // Of a text beyond the model's window only the beginning is seen.
                (Ok(a), Ok(b)) if a.truncated.is_none() && b.truncated.is_none() => by_cosine(&a.vector, &b.vector),
                _ => Self::Unsure,
            },
        }
    }
}

/// Words that answer nothing but the question they were given to.
const BOUND: [&str; 22] = [
    "yes",
    "no",
    "yeah",
    "yep",
    "nope",
    "true",
    "false",
    "correct",
    "incorrect",
    "right",
    "wrong",
    "ok",
    "okay",
    "sure",
    "maybe",
    "none",
    "never",
    "always",
    "ja",
    "nein",
    "oui",
    "non",
];

/// Whether an answer says something without its question. "Yes." to two questions does not make them one: a group of such
/// questions would vouch for every other like them.
pub(super) fn stands_alone(answer: &str) -> bool {
    let normalised = normalise(answer);
    let mut words = normalised.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.any(|word| !BOUND.contains(&word) && !word.chars().all(char::is_numeric))
}

/// What the words alone decide.
fn by_words(fresh: &str, stored: &str) -> Option<Likeness> {
    let (a, b) = (normalise(fresh), normalise(stored));
    if a == b {
        return Some(Likeness::Same);
    }
    let (words_a, words_b) = (a.split_whitespace().count(), b.split_whitespace().count());
    let (shorter, longer) = (words_a.min(words_b), words_a.max(words_b));
    let (one, other) = (Features::of(fresh), Features::of(stored));
    if shorter <= SHORT {
        let within = |inner: &str, outer: &str| outer.contains(inner.trim_end_matches('.'));
        let one_in_other = !a.is_empty() && !b.is_empty() && (within(&a, &b) || within(&b, &a));
        let alike = one_in_other || Difference::between(&one, &other) == Difference::None;
        let objections = Guards::all().objections(&one, &other);
        // "5" and "5 days" may be the same number; "hall 5" and "hall 6" are not the same hall.
        let counts = !one_in_other && (objections.has(Guard::Numbers) || objections.has(Guard::Dates));
        let contradicts = objections.has(Guard::Negation) || counts;
        return Some(if alike && !contradicts { Likeness::Unsure } else { Likeness::Different });
    }
    let objections = Guards::all().objections(&one, &other);
    let facts = [Guard::Numbers, Guard::Dates, Guard::Antonyms, Guard::Language];
    if facts.into_iter().any(|guard| objections.has(guard)) {
        return Some(Likeness::Different);
    }
    let doubts = [Guard::Negation, Guard::Entities, Guard::Direction];
    if doubts.into_iter().any(|guard| objections.has(guard)) || longer > shorter * MOST_RATIO {
        return Some(Likeness::Unsure);
    }
    None
}

fn by_cosine(a: &[f32], b: &[f32]) -> Likeness {
    let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    if cosine >= SAME {
        Likeness::Same
    } else if cosine < DIFFERENT {
        Likeness::Different
    } else {
        Likeness::Unsure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_where_they_can() {
        let rows = [
            ("Paris", "paris.", Some(Likeness::Same)),
            ("Paris", "Rome", Some(Likeness::Different)),
            ("Yes", "No", Some(Likeness::Different)),
            ("Paris.", "The capital of France is Paris.", Some(Likeness::Unsure)),
            ("It is allowed.", "It is not allowed.", Some(Likeness::Different)),
            ("", "x", Some(Likeness::Different)),
            (
                "Your card arrives within 5 working days of the day on which you ordered it.",
                "Your card arrives within 7 working days of the day on which you ordered it.",
                Some(Likeness::Different),
            ),
            (
                "Your card arrives within 5 working days of the day on which you ordered it.",
                "Within 5 working days of the day you ordered the card, it arrives at your address.",
                None,
            ),
            (
                "You can change the delivery address in the app as long as the parcel is with us.",
                "You cannot change the delivery address in the app as long as the parcel is with us.",
                Some(Likeness::Unsure),
            ),
            (
                "Please contact the Berlin office during its opening hours to get a replacement.",
                "Please contact the Madrid office during its opening hours to get a replacement.",
                Some(Likeness::Different),
            ),
            (
                "Please contact the Kowalski office during its opening hours to get a replacement.",
                "Please contact the Lindqvist office during its opening hours to get a replacement.",
                Some(Likeness::Unsure),
            ),
            ("In hall 3.", "In hall 4.", Some(Likeness::Different)),
            ("5", "5 days", Some(Likeness::Unsure)),
        ];
        for (a, b, expected) in rows {
            assert_eq!(by_words(a, b), expected, "{a:?} / {b:?}");
            assert_eq!(by_words(b, a), expected, "{b:?} / {a:?}");
        }
    }

    #[test]
    fn an_answer_of_assent_or_a_bare_number_does_not_stand_alone() {
        for bound in ["Yes", "no.", "True", "Yes, yes!", "42", "3.14", "1,000", "", "No, never."] {
            assert!(!stands_alone(bound), "{bound:?}");
        }
        for alone in ["Paris", "billing", "Yes, on weekdays", "42 km", "not allowed"] {
            assert!(stands_alone(alone), "{alone:?}");
        }
    }

    #[tokio::test]
    async fn an_embedder_that_fails_leaves_it_open() {
        let failing = Embedder::failing(crate::embed::EmbedError::Deadline);
        let (a, b) = (
            "Your card arrives within 5 working days of the day on which you ordered it.",
            "Within 5 working days of the day you ordered the card, it arrives at your address.",
        );
        assert_eq!(Likeness::of(a, b, &failing, "t").await, Likeness::Unsure);
        let alike = Embedder::fixed(2, |_| Ok(vec![1.0, 0.0]));
        assert_eq!(Likeness::of(a, b, &alike, "t").await, Likeness::Same);
    }
}
