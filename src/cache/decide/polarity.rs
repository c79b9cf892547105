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
        for (member, spellings) in (0_u8..).zip(line.trim_start_matches('!').split('|')) {
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

/// Whether a group's members exclude silence as well, by group.
static EXCLUDES_SILENCE: LazyLock<Vec<bool>> =
    LazyLock::new(|| CONTRASTS.lines().map(|line| line.starts_with('!')).collect());

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

/// A word of each text that exclude each other by the list, each missing from the other text; or a word of one text
/// whose group the other does not touch, where the group excludes silence.
pub(super) fn split_contrast(mine: &[Contrast], theirs: &[Contrast]) -> Option<(Option<u16>, Option<u16>)> {
    let split = mine.iter().filter(|c| !has(theirs, c.place)).find_map(|c| {
        let other = group(theirs, c.place.group).iter().find(|o| !has(mine, o.place))?;
        Some((Some(c.word), Some(other.word)))
    });
    split
        .or_else(|| against_silence(mine, theirs).map(|word| (Some(word), None)))
        .or_else(|| against_silence(theirs, mine).map(|word| (None, Some(word))))
}

fn against_silence(mine: &[Contrast], theirs: &[Contrast]) -> Option<u16> {
    let excludes = |c: &&Contrast| EXCLUDES_SILENCE.get(usize::from(c.place.group)).is_some_and(|excludes| *excludes);
    mine.iter().filter(excludes).find(|c| group(theirs, c.place.group).is_empty()).map(|c| c.word)
}

fn has(contrasts: &[Contrast], place: Place) -> bool {
    contrasts.binary_search_by_key(&place, |c| c.place).is_ok()
}

/// The contrasts that belong to the group.
fn group(contrasts: &[Contrast], group: u16) -> &[Contrast] {
    let start = contrasts.partition_point(|c| c.place.group < group);
    let end = contrasts.partition_point(|c| c.place.group <= group);
    contrasts.get(start..end).unwrap_or(&[])
}

/// Whether one word is the other with a negating prefix, or the two are opposites by their beginning or ending. Takes
/// case-folded words.
pub(super) fn are_opposites(a: &str, b: &str) -> bool {
    let negated = |long: &str, short: &str| {
        let same = |prefix| {
            long.strip_prefix(prefix)
                .is_some_and(|rest| rest.len() > 2 && is_same_word(rest.trim_start_matches('-'), short))
        };
        NEGATING_PREFIXES.into_iter().any(same)
    };
    let (one, other) = (singular(a), singular(b));
    let starts = |a: &str, b: &str, x, y| same_rest(a.strip_prefix(x), b.strip_prefix(y));
    let ends = |a: &str, b: &str, x, y| same_rest(a.strip_suffix(x), b.strip_suffix(y));
    negated(a, b)
        || negated(b, a)
        || PREFIX_PAIRS.into_iter().any(|(x, y)| starts(a, b, x, y) || starts(b, a, x, y))
        || SUFFIX_PAIRS.into_iter().any(|(x, y)| ends(one, other, x, y) || ends(other, one, x, y))
}

fn same_rest(a: Option<&str>, b: Option<&str>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.len() > 1 && is_same_word(a, b))
}

/// Equal but for an ending, once the first letters, which decide most, agree.
fn is_same_word(a: &str, b: &str) -> bool {
    a.as_bytes().get(..2) == b.as_bytes().get(..2) && stem(a) == stem(b)
}

fn singular(word: &str) -> &str {
    let word = word.strip_suffix("'s").unwrap_or(word);
    if word.ends_with("ss") { word } else { word.strip_suffix('s').unwrap_or(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_excludes_itself() {
        for (word, places) in PLACES.iter() {
            let groups: HashSet<u16> = places.iter().map(|p| p.group).collect();
            assert_eq!(groups.len(), places.len(), "{word} stands in two members of one group");
        }
    }
}
