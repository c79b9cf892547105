//! Names: which words of a text single something out.
//!
//! A word is a *name* if its capitals say so, or if it is a file name, an emoji, or a foreign word. Where capitals say nothing (the first
//! word of a sentence, a text all in lower or upper case) a word with a topic *may be* a name. Two texts disagree when a
//! name of one is missing from the other and the other has a word of its own that is or may be a name.

use super::dates::names_a_date;
use super::language::Script;
use super::lexicon::{CASE_BEARING, DOTTED_ENDINGS};
use super::words::{Token, is_pictograph};

/// How a text uses capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Only in lower case, but for the first letters of sentences.
    Lower,
    /// As in a sentence: capitals mean something.
    Sentence,
    /// Every Word Has One, function words too.
    Title,
    /// ALL OF IT.
    Upper,
}

/// What a word is to this guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    MayBeName,
    Plain,
}

/// Abbreviations whose point ends no sentence.
const TITLES: [&str; 9] = ["mr", "mrs", "ms", "dr", "st", "prof", "vs", "eg", "ie"];

/// The kind of each word.
pub(super) fn kinds(text: &str, tokens: &[Token], dominant: Option<Script>) -> Vec<Kind> {
    let case = case_of(text, tokens);
    let mut kinds = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|i| tokens.get(i));
        let initial = starts_sentence(text, before, token);
        let around = (before.map(|t| t.folded.as_str()), tokens.get(index + 1).map(|t| t.folded.as_str()));
        let folded = token.folded.strip_suffix("'s").unwrap_or(&token.folded);
        let word = text.get(token.at.clone()).unwrap_or("");
        let kind = if names_a_date(text, token, folded, around.0, around.1)
            || folded.starts_with(|c: char| c.is_ascii_digit())
        {
            Kind::Plain
        } else {
            kind_of(word, token.stop, initial, case, dominant)
        };
        kinds.push(kind);
    }
    kinds
}

fn kind_of(word: &str, stop: bool, initial: bool, case: Case, dominant: Option<Script>) -> Kind {
    let capital = word.starts_with(char::is_uppercase);
    let capitals = word.chars().filter(|c| c.is_uppercase()).count();
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let all_capitals = capitals > 1 && capitals == letters;
    let foreign = dominant.is_some_and(|d| d != Script::Latin) && word.starts_with(|c: char| c.is_ascii_alphabetic());
    if word.starts_with(is_pictograph) || foreign || is_dotted(word) || (letters == 1 && word.ends_with(['+', '#'])) {
        return Kind::Name;
    }
    if letters == 0 {
        return Kind::Plain;
    }
    match case {
        Case::Upper | Case::Title | Case::Lower if stop => Kind::Plain,
        Case::Upper => Kind::MayBeName,
        _ if all_capitals && !(stop && word.chars().count() < 2) => Kind::Name,
        _ if capitals > usize::from(capital) && !all_capitals => Kind::Name,
        _ if stop => Kind::Plain,
        Case::Sentence if capital && !initial => Kind::Name,
        Case::Sentence if !capital => Kind::Plain,
        _ => Kind::MayBeName,
    }
}

/// A file name, a host, a dotted product name.
fn is_dotted(word: &str) -> bool {
    let ending = word.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| DOTTED_ENDINGS.split_whitespace().any(|known| known == ending))
}

fn case_of(text: &str, tokens: &[Token]) -> Case {
    let (mut upper, mut lower, mut capital, mut capital_stop, mut inner) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let mut before = None;
    for token in tokens {
        let word = text.get(token.at.clone()).unwrap_or("");
        let capitals = word.chars().filter(|c| c.is_uppercase()).count();
        upper += capitals;
        lower += word.chars().filter(|c| c.is_lowercase()).count();
        if !starts_sentence(text, before, token) {
            inner += 1;
            let begins = word.starts_with(char::is_uppercase) && !word.starts_with("I'") && word != "I";
            capital += usize::from(begins);
            capital_stop += usize::from(begins && token.stop);
        }
        before = Some(token);
    }
    if upper > 2 * lower && tokens.len() > 2 {
        Case::Upper
    } else if capital * 3 > inner * 2 && capital_stop > 0 {
        Case::Title
    } else if capital == 0 {
        Case::Lower
    } else {
        Case::Sentence
    }
}

fn starts_sentence(text: &str, before: Option<&Token>, token: &Token) -> bool {
    let Some(before) = before else { return true };
    let gap = text.get(before.at.end..token.at.start).unwrap_or("");
    let point = gap.contains('.') && !TITLES.contains(&before.folded.as_str());
    point || gap.contains(['?', '!', ':', '\n', '"', '“', '•', '*', '('])
}

/// The words of [`CASE_BEARING`] that the text has in capitals, and those it has in lower case, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaseBearing {
    capital: u8,
    lower: u8,
}

impl CaseBearing {
    pub(super) fn of(text: &str, tokens: &[Token]) -> Self {
        let mut found = Self::default();
        if matches!(case_of(text, tokens), Case::Upper | Case::Title) {
            return found;
        }
        for (index, token) in tokens.iter().enumerate() {
            let word = text.get(token.at.clone()).unwrap_or("");
            let Some(bit) = CASE_BEARING.iter().position(|w| w.eq_ignore_ascii_case(word)) else { continue };
            let before = index.checked_sub(1).and_then(|i| tokens.get(i));
            let shouted = word.chars().all(char::is_uppercase);
            let capital =
                shouted || (token.folded == "polish" && word.starts_with('P') && !starts_sentence(text, before, token));
            if capital {
                found.capital |= 1 << bit;
            } else if word.chars().all(char::is_lowercase) && before.is_none_or(|b| b.folded != "the") {
                found.lower |= 1 << bit;
            }
        }
        found
    }

    /// A word that is a name in one text and an ordinary word in the other.
    pub(super) fn compare(self, other: Self) -> Option<&'static str> {
        let split = |a: Self, b: Self| a.capital & !a.lower & b.lower & !b.capital;
        let bits = split(self, other) | split(other, self);
        CASE_BEARING.iter().enumerate().find(|(i, _)| bits >> i & 1 == 1).map(|(_, word)| *word)
    }
}
