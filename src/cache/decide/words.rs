//! Cutting a canonical text into words.
//!
//! Words are those of Unicode (UAX #29), with the repairs that questions to a model need: "C++" and "C#" keep their
//! signs, "non-member" is one word, hyphenated compounds are two, and an emoji is a word.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation as _;

use super::lexicon;
use super::text::fold_into;

/// Words longer than this, in bytes, are taken as they are.
const MAX_STEMMED: usize = 48;

static STOP: LazyLock<HashSet<&'static str>> = LazyLock::new(|| lexicon::STOP.split_whitespace().collect());

/// One word: where it stands, and its case-folded form.
pub(super) struct Token {
    pub(super) at: Range<usize>,
    pub(super) folded: String,
    pub(super) stop: bool,
}

/// The words of a canonical text, in order.
pub(super) fn cut(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::with_capacity(text.len() / 5 + 1);
    for (start, segment) in text.split_word_bound_indices() {
        if !segment.chars().any(|c| c.is_alphanumeric() || is_pictograph(c)) {
            continue;
        }
        if let Some(dot) = missing_blank(segment) {
            push(&mut tokens, text, start..start + dot);
            push(&mut tokens, text, start + dot + 1..start + segment.len());
            continue;
        }
        let end = start + segment.len() + signs_after(segment, text.get(start + segment.len()..).unwrap_or(""));
        if let Some(last) = tokens.last_mut()
            && last.folded == "non"
            && text.get(last.at.end..start) == Some("-")
        {
            fold(&mut last.folded, segment);
            last.at.end = end;
            continue;
        }
        push(&mut tokens, text, start..end);
    }
    tokens
}

fn push(tokens: &mut Vec<Token>, text: &str, at: Range<usize>) {
    let word = text.get(at.clone()).unwrap_or("");
    let mut folded = String::with_capacity(word.len());
    match word {
        // The country, not the pronoun.
        "US" | "U.S" | "U.S.A" | "u.s" | "u.s.a" => folded.push_str("usa"),
        _ => fold(&mut folded, word),
    }
    tokens.push(Token { at, stop: STOP.contains(folded.as_str()), folded });
}

/// Where a sentence ends within a word because its writer left out the blank: "progress.I".
fn missing_blank(word: &str) -> Option<usize> {
    let dot = word.find('.')?;
    let before = word.get(..dot)?.ends_with(char::is_lowercase);
    (before && word.get(dot + 1..)?.starts_with(char::is_uppercase)).then_some(dot)
}

/// The stem by which words are compared.
pub(super) fn stem(folded: &str) -> Cow<'_, str> {
    thread_local! {
        static ENGLISH: Stemmer = Stemmer::create(Algorithm::English);
    }
    if folded.len() > MAX_STEMMED { Cow::Borrowed(folded) } else { ENGLISH.with(|stemmer| stemmer.stem(folded)) }
}

/// An index of words by their place in a list whose entries are blank-separated spellings.
pub(super) fn spellings(lines: &[&'static str]) -> HashMap<&'static str, u8> {
    let mut map = HashMap::new();
    for (index, line) in (0_u8..).zip(lines) {
        map.extend(line.split_whitespace().map(|spelling| (spelling, index)));
    }
    map
}

fn fold(out: &mut String, word: &str) {
    word.chars().for_each(|c| fold_into(out, c));
}

/// Length of the signs that belong to a one-letter name before them ("C++", "F#").
fn signs_after(word: &str, rest: &str) -> usize {
    if word.len() != 1 || !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return 0;
    }
    if rest.starts_with("++") { 2 } else { usize::from(rest.starts_with('#')) }
}

/// Emoji and dingbats.
pub(super) fn is_pictograph(c: char) -> bool {
    matches!(u32::from(c), 0x2600..=0x27bf | 0x1f000..=0x1faff | 0x2b50 | 0x2b55)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_signs_and_compounds_come_apart() {
        let rows: [(&str, &[&str]); 9] = [
            ("Don't stop", &["don't", "stop"]),
            ("C++ or C# or C", &["c++", "or", "c#", "or", "c"]),
            ("non-members only", &["nonmembers", "only"]),
            ("gluten-free", &["gluten", "free"]),
            ("10GB for £1,000.50", &["10gb", "for", "1,000.50"]),
            ("is 👍 ok", &["is", "👍", "ok"]),
            ("你好吗", &["你", "好", "吗"]),
            ("a.m. snake_case", &["a.m", "snake_case"]),
            (" — !? ", &[]),
        ];
        for (text, words) in rows {
            assert_eq!(cut(text).iter().map(|t| t.folded.as_str()).collect::<Vec<_>>(), words, "{text:?}");
        }
    }
}
