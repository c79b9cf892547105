//! Weekdays, months, and days relative to today.
//!
//! Two texts disagree when both name something of one kind and not the same. Days of the month, years and times of day
//! are numbers and handled there.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lexicon::{MONTHS, PERIODS, RELATIVE, WEEKDAYS};
use super::words::{Token, spellings};

static WEEKDAY: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| spellings(&WEEKDAYS));
static MONTH: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| spellings(&MONTHS));
static DAY: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| spellings(&RELATIVE));
static PERIOD: LazyLock<HashMap<&'static str, u8>> =
    LazyLock::new(|| spellings(&PERIODS.split_whitespace().collect::<Vec<_>>()));

/// Spellings that are more often another word; they need a sign that a date is meant.
const AMBIGUOUS: [&str; 9] = ["may", "march", "mar", "sat", "sun", "mon", "wed", "dec", "second"];
/// Words before an ambiguous spelling that make it a date.
const BEFORE_A_DATE: [&str; 17] = [
    "in", "on", "of", "by", "until", "till", "since", "this", "next", "last", "from", "every", "early", "late", "mid",
    "before", "after",
];
/// Bits of `relative`: the words of [`RELATIVE`], then "last", "this", "next" and the periods they stand before.
const LAST: u32 = 1 << 6;
const THIS: u32 = 1 << 7;
const NEXT: u32 = 1 << 8;
const FIRST_PERIOD: u32 = 9;

/// The dates of a text as sets of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dates {
    weekdays: u32,
    months: u32,
    relative: u32,
}

impl Dates {
    pub(super) fn of(text: &str, tokens: &[Token]) -> Self {
        let mut dates = Self::default();
        let mut before: Option<&str> = None;
        for (index, token) in tokens.iter().enumerate() {
            let word = token.folded.strip_suffix("'s").unwrap_or(&token.folded);
            let after = tokens.get(index + 1).map(|t| t.folded.as_str());
            if names_a_date(text, token, word, before, after) {
                dates.weekdays |= bit(WEEKDAY.get(word), 0);
                dates.months |= bit(MONTH.get(word), 0);
            }
            dates.relative |= bit(DAY.get(word), 0);
            if let Some(period) = after.and_then(|w| PERIOD.get(w.strip_suffix("'s").unwrap_or(w))) {
                let which = match word {
                    "last" | "previous" | "past" => LAST,
                    "this" | "current" => THIS,
                    "next" | "coming" | "following" => NEXT,
                    _ => 0,
                };
                dates.relative |= if which == 0 { 0 } else { which | bit(Some(period), FIRST_PERIOD) };
            }
            before = Some(word);
        }
        dates
    }

    /// Why the dates differ, if they do.
    pub(super) fn compare(self, other: Self) -> Option<String> {
        let kinds = [
            (self.weekdays, other.weekdays, &WEEKDAYS[..]),
            (self.months, other.months, &MONTHS[..]),
            (self.relative, other.relative, &RELATIVE[..]),
        ];
        let differs = |(a, b, _): &&(u32, u32, &[&str])| *a != 0 && *b != 0 && a != b;
        kinds.iter().find(differs).map(|(a, b, names)| format!("{} ≠ {}", show(*a, names), show(*b, names)))
    }
}

/// Whether the word is one of the lists' as a date; a month or weekday that is also another word needs its surroundings.
pub(super) fn names_a_date(text: &str, token: &Token, word: &str, before: Option<&str>, after: Option<&str>) -> bool {
    if !WEEKDAY.contains_key(word) && !MONTH.contains_key(word) {
        return false;
    }
    let is_number = |w: Option<&str>| w.is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()));
    let capital = text.get(token.at.start..).is_some_and(|t| t.starts_with(char::is_uppercase));
    !AMBIGUOUS.contains(&word)
        || is_number(before)
        || is_number(after)
        || before.is_some_and(|w| BEFORE_A_DATE.contains(&w))
        || (capital && before.is_some())
}

fn bit(index: Option<&u8>, shift: u32) -> u32 {
    index.map_or(0, |index| 1 << (u32::from(*index) + shift))
}

fn show(bits: u32, names: &[&str]) -> String {
    let named = names.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, n)| *n);
    let modified = [(LAST, "last"), (THIS, "this"), (NEXT, "next")];
    let relative = names.len() == RELATIVE.len();
    let modifiers = modified.iter().filter(|(flag, _)| relative && bits & flag != 0).map(|(_, name)| *name);
    let periods =
        PERIODS.split_whitespace().enumerate().filter(|(i, _)| relative && bits >> FIRST_PERIOD >> i & 1 == 1);
    let first_spelling = |n: &'_ str| n.split(' ').next().unwrap_or("").to_owned();
    named.chain(modifiers).map(first_spelling).chain(periods.map(|(_, p)| p.to_owned())).collect::<Vec<_>>().join(" ")
}
