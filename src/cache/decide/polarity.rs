//! Negation and opposites: the differences that similarity sees least.
//!
//! Negation counts cues and compares parity, so "not uncommon" and two negations in other words agree. Opposites look
//! only at words that one text has and the other lacks. Both know English; negation also a few cues of other languages.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::language::Language;
use super::lexicon::{
    CONTRASTS, NEGATING_PREFIXES, NEGATION, NEGATION_ELSEWHERE, NOT_NEGATION, PREFIX_PAIRS, SUFFIX_PAIRS,
};
use super::words::{Token, stem};

static CUES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| NEGATION.split_whitespace().collect());

/// The phrases of [`NOT_NEGATION`] as words.
static HARMLESS: LazyLock<Vec<Vec<&'static str>>> =
    LazyLock::new(|| NOT_NEGATION.iter().map(|phrase| phrase.split(' ').collect()).collect());

/// Where a word (by stem; two words joined by a blank) stands in the list of contrasts.
static PLACES: LazyLock<HashMap<String, Vec<Place>>> = LazyLock::new(|| {
    let mut places: HashMap<String, Vec<Place>> = HashMap::new();
    for (group, line) in (0_u16..).zip(CONTRASTS.lines()) {
        for (member, spellings) in (0_u8..).zip(line.split('|')) {
            for spelling in spellings.split_whitespace() {
                let stems: Vec<_> = spelling.split('_').map(stem).collect();
                let place = places.entry(stems.join(" ")).or_default();
                if !place.contains(&Place { group, member }) {
                    place.push(Place { group, member });
                }
            }
        }
    }
    places
});

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    group: u16,
    member: u8,
}

/// A contrasting word in a text: its place in the list, and which word of the text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Contrast {
    place: Place,
    /// Index of the word in the text.
    pub(super) word: u16,
}

/// Counts the negations of a text.
pub(super) fn negations(tokens: &[Token], language: Option<Language>) -> u16 {
    let mut count = 0_u16;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        if let Some(phrase) = HARMLESS.iter().find(|phrase| begins_with(tokens, index, phrase)) {
            index += phrase.len();
            continue;
        }
        let elsewhere =
            |(l, cues): &(Language, &str)| Some(*l) == language && cues.split(' ').any(|c| c == token.folded);
        let cue = CUES.contains(token.folded.as_str())
            || token.folded.ends_with("n't")
            || NEGATION_ELSEWHERE.iter().any(elsewhere);
        if cue && !is_alternative(tokens, index) && !is_number_sign(tokens, index) {
            count = count.saturating_add(1);
        }
        index += 1;
    }
    count
}

/// Chinese asks "can or cannot" with the verb on both sides of the negation.
fn is_alternative(tokens: &[Token], index: usize) -> bool {
    let around = |i: Option<usize>| i.and_then(|i| tokens.get(i)).map(|t| &t.folded);
    let (before, after) = (around(index.checked_sub(1)), around(Some(index + 1)));
    before.is_some() && before == after
}

/// "No. 5" and "no 5" are numbers.
fn is_number_sign(tokens: &[Token], index: usize) -> bool {
    tokens.get(index).is_some_and(|t| t.folded == "no")
        && tokens.get(index + 1).is_some_and(|t| t.folded.starts_with(|c: char| c.is_ascii_digit()))
}

fn begins_with(tokens: &[Token], index: usize, phrase: &[&str]) -> bool {
    tokens.get(index..index + phrase.len()).is_some_and(|words| words.iter().zip(phrase).all(|(t, p)| t.folded == *p))
}

/// The contrasting words of a text, sorted. `stems` are those of its words, in order.
pub(super) fn contrasts(stems: &[&str]) -> Box<[Contrast]> {
    let mut found = Vec::new();
    let mut pair = String::new();
    for (word, stem) in (0_u16..).zip(stems) {
        let mut add = |key: &str| {
            let places = PLACES.get(key).into_iter().flatten();
            found.extend(places.map(|place| Contrast { place: *place, word }));
        };
        add(stem);
        if let Some(next) = stems.get(usize::from(word) + 1) {
            pair.clear();
            pair.extend([stem, " ", next]);
            add(&pair);
        }
    }
    found.sort_unstable();
    found.dedup_by_key(|c| c.place);
    found.into()
}

/// A word of each text that exclude each other by the list, each missing from the other text.
pub(super) fn split_contrast(mine: &[Contrast], theirs: &[Contrast]) -> Option<(u16, u16)> {
    let alone = |c: &&Contrast, others: &[Contrast]| others.binary_search_by_key(&c.place, |o| o.place).is_err();
    mine.iter().filter(|c| alone(c, theirs)).find_map(|c| {
        let start = theirs.partition_point(|o| o.place.group < c.place.group);
        let same_group = theirs.get(start..)?.iter().take_while(|o| o.place.group == c.place.group);
        let other = same_group.into_iter().find(|o| alone(o, mine))?;
        Some((c.word, other.word))
    })
}

/// Whether one word is the other with a negating prefix, or the two are opposites by their beginning or ending.
/// Takes stems for the beginnings and whole words for the endings.
pub(super) fn are_opposites(a: (&str, &str), b: (&str, &str)) -> bool {
    let negated = |long: &str, short: &str| {
        short.chars().count() > 2 && NEGATING_PREFIXES.iter().any(|prefix| long.strip_prefix(prefix) == Some(short))
    };
    let (stem_a, stem_b) = (a.0, b.0);
    negated(stem_a, stem_b)
        || negated(stem_b, stem_a)
        || PREFIX_PAIRS.iter().any(|pair| swaps_prefix(stem_a, stem_b, *pair) || swaps_prefix(stem_b, stem_a, *pair))
        || SUFFIX_PAIRS.iter().any(|pair| swaps_suffix(a.1, b.1, *pair) || swaps_suffix(b.1, a.1, *pair))
}

fn swaps_prefix(a: &str, b: &str, (first, second): (&str, &str)) -> bool {
    matches!((a.strip_prefix(first), b.strip_prefix(second)), (Some(x), Some(y)) if x == y && x.len() > 1)
}

fn swaps_suffix(a: &str, b: &str, (first, second): (&str, &str)) -> bool {
    let singular = |w: &str| w.strip_suffix("'s").unwrap_or(w).strip_suffix('s').unwrap_or(w).to_owned();
    let (a, b) = if first == "ful" { (a.to_owned(), b.to_owned()) } else { (singular(a), singular(b)) };
    matches!((a.strip_suffix(first), b.strip_suffix(second)), (Some(x), Some(y)) if x == y && x.len() > 2)
}
