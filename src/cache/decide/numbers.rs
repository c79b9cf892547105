//! The numbers of a text: digits, number words, ordinals, identifiers with digits, and the units they carry.
//!
//! Two texts agree when their numbers are equal as multisets. A unit or a label ("GPT-4") that only one side gives does
//! not part them; units that differ do.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lexicon::{CARDINALS, HAN_NUMERALS, ORDINALS, ROMAN, SCALES, UNITS};
use super::words::{Token, spellings};

static UNIT: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| spellings(&UNITS));
static CARDINAL: LazyLock<HashMap<&'static str, u64>> = LazyLock::new(|| CARDINALS.iter().copied().collect());
static ORDINAL: LazyLock<HashMap<&'static str, u64>> = LazyLock::new(|| ORDINALS.iter().copied().collect());
static SCALE: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| SCALES.iter().copied().collect());

/// Signs between or before numbers that change what is computed.
const OPERATORS: [&str; 14] = ["+", "-", "*", "**", "×", "/", "÷", "^", "=", "<", ">", "<=", ">=", "!="];

/// One number. Order is that of the fields, so equal multisets sort alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    /// Digits without separators, or the folded identifier, or an operator.
    value: Box<str>,
    /// The word before it: part of an identifier if `glued`.
    label: Option<Box<str>>,
    glued: bool,
    unit: Option<u8>,
}

/// All numbers of a text.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    sorted: Box<[Number]>,
    /// How often "one" or "first" stands where a 1 could. Alone they say little ("which one", "what do I do first").
    ones: u16,
}

impl Numbers {
    pub(super) fn of(text: &str, tokens: &[Token]) -> Self {
        let mut reader = Reader { text, tokens, found: Vec::new(), ones: 0 };
        let mut index = 0;
        while index < tokens.len() {
            index = reader.read(index);
        }
        reader.found.sort_unstable();
        Self { sorted: reader.found.into(), ones: reader.ones }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let texts = |n: &Number| n.value.len() + n.label.as_ref().map_or(0, |l| l.len());
        self.sorted.iter().map(|n| size_of::<Number>() + texts(n)).sum()
    }

    /// Why the numbers differ, if they do.
    pub(super) fn compare(&self, other: &Self) -> Option<String> {
        let (mine, my_ones) = self.without_ones();
        let (theirs, their_ones) = other.without_ones();
        let ones_differ = if my_ones >= their_ones {
            my_ones - their_ones > usize::from(other.ones)
        } else {
            their_ones - my_ones > usize::from(self.ones)
        };
        let values_differ = mine.len() != theirs.len() || mine.iter().zip(&theirs).any(|(a, b)| a.value != b.value);
        if ones_differ || values_differ {
            return Some(format!("{} ≠ {}", self.list_beside(other), other.list_beside(self)));
        }
        let units_differ = |(a, b): &(&&Number, &&Number)| a.clashes_with(b);
        mine.iter().zip(&theirs).find(units_differ).map(|(a, b)| format!("{} ≠ {}", a.show(), b.show()))
    }

    fn without_ones(&self) -> (Vec<&Number>, usize) {
        let rest: Vec<&Number> = self.sorted.iter().filter(|n| &*n.value != "1").collect();
        let ones = self.sorted.len() - rest.len();
        (rest, ones)
    }

    /// What this side has and the other lacks, as text; everything if that is nothing.
    fn list_beside(&self, other: &Self) -> String {
        let lacks = |n: &&Number| !other.sorted.iter().any(|o| o.value == n.value);
        let mut shown: Vec<String> = self.sorted.iter().filter(lacks).take(4).map(Number::show).collect();
        if shown.is_empty() {
            shown = self.sorted.iter().take(4).map(Number::show).collect();
        }
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    }
}

impl Number {
    fn clashes_with(&self, other: &Self) -> bool {
        let units = matches!((self.unit, other.unit), (Some(a), Some(b)) if a != b && !may_be_same_unit(a, b));
        units || ((self.glued || other.glued) && self.label != other.label)
    }

    fn show(&self) -> String {
        let unit = self.unit.and_then(|u| UNITS.get(usize::from(u))).and_then(|line| line.split(' ').next());
        let label = self.label.as_deref().filter(|_| self.glued);
        let parts = [label, Some(&*self.value), unit];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// A pound is money or mass; all other units exclude each other.
fn may_be_same_unit(a: u8, b: u8) -> bool {
    let of = |name| UNIT.get(name).copied();
    let pound = of("pound");
    let pounds = [of("gbp"), of("lb")];
    (Some(a) == pound && pounds.contains(&Some(b))) || (Some(b) == pound && pounds.contains(&Some(a)))
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    found: Vec<Number>,
    ones: u16,
}

impl Reader<'_> {
    /// Reads what starts at the word and returns the next word to look at.
    fn read(&mut self, index: usize) -> usize {
        let Some(token) = self.tokens.get(index) else { return index + 1 };
        let original = self.text.get(token.at.clone()).unwrap_or("");
        let first_digit = token.folded.bytes().position(|b| b.is_ascii_digit());
        if let Some(first_digit) = first_digit {
            return self.digits(index, first_digit);
        }
        if let Some((_, value)) = ROMAN.iter().find(|(numeral, _)| *numeral == original) {
            self.push(index, value.to_string(), None);
            return index + 1;
        }
        if token.folded.chars().all(|c| HAN_NUMERALS.contains(c)) {
            return self.han(index);
        }
        if let Some((value, next)) = self.in_words(index) {
            self.push(index, value.to_string(), self.unit_at(next));
            return next;
        }
        if matches!(token.folded.as_str(), "one" | "first") {
            self.ones = self.ones.saturating_add(1);
        }
        if let Some(value) = ORDINAL.get(token.folded.as_str())
            && (token.folded != "second" || self.previous(index) != Some("per"))
        {
            self.push(index, value.to_string(), None);
        }
        index + 1
    }

    /// A word with digits in it.
    fn digits(&mut self, index: usize, first_digit: usize) -> usize {
        let Some(token) = self.tokens.get(index) else { return index + 1 };
        let (head, rest) = token.folded.split_at(first_digit);
        let numeric =
            rest.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'\'' | b'_')).count();
        let (number, tail) = rest.split_at(numeric);
        let number = number.trim_end_matches(['.', ',', '\'', '_']);
        if tail.bytes().any(|b| b.is_ascii_digit()) || (!head.is_empty() && !tail.is_empty()) {
            self.push(index, token.folded.clone(), None);
            return index + 1;
        }
        if !head.is_empty() {
            let label = head.trim_end_matches('_').into();
            self.found.push(Number { value: plain(number), label: Some(label), glued: true, unit: None });
            return index + 1;
        }
        if tail.is_empty() {
            return self.bare(index, number);
        }
        let unit = UNIT.get(tail).copied();
        let value = match tail {
            "st" | "nd" | "rd" | "th" => plain(number).into_string(),
            "k" => scaled(number, 3),
            "bn" => scaled(number, 9),
            _ if unit.is_some() => plain(number).into_string(),
            _ => token.folded.clone(),
        };
        self.push(index, value, unit.or_else(|| self.unit_before(index)));
        index + 1
    }

    /// A word of nothing but digits and separators: takes in the minutes of a time, groups of thousands, and a scale.
    fn bare(&mut self, index: usize, number: &str) -> usize {
        let mut value = plain(number).into_string();
        let mut next = index + 1;
        let is_digits = |word: &str| word.bytes().all(|b| b.is_ascii_digit());
        while let (Some(":"), Some(word)) = (self.gap_before(next), self.folded(next)) {
            let minutes = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            if minutes.len() != 2 || !is_digits(minutes) {
                break;
            }
            if minutes != "00" {
                value = format!("{}:{minutes}", value.strip_prefix('0').unwrap_or(&value));
            }
            next += 1;
            if let Some(unit) = UNIT.get(word.get(2..).unwrap_or("")) {
                self.push(index, value, Some(*unit));
                return next;
            }
        }
        while let (Some(" "), Some(word)) = (self.gap_before(next), self.folded(next)) {
            if value.len() > 3 && next == index + 1 || word.len() != 3 || !is_digits(word) || !is_digits(&value) {
                break;
            }
            value.push_str(word);
            next += 1;
        }
        while let (Some(" " | "-"), Some(zeros)) = (self.gap_before(next), self.folded(next).and_then(|w| SCALE.get(w)))
        {
            value = scaled(&value, *zeros);
            next += 1;
        }
        let unit = self.unit_at(next).or_else(|| self.unit_before(index));
        self.operator(index);
        // "1,2,3" without blanks is a list, not one number.
        for part in value.split(',') {
            self.push(index, part.to_owned(), unit);
        }
        next
    }

    /// A run of Chinese numerals.
    fn han(&mut self, index: usize) -> usize {
        let mut value = String::new();
        let mut next = index;
        while let Some(word) = self.folded(next).filter(|w| w.chars().all(|c| HAN_NUMERALS.contains(c))) {
            value.push_str(word);
            next += 1;
        }
        self.push(index, value, None);
        next
    }

    /// A number in words, and the word after it.
    fn in_words(&self, index: usize) -> Option<(u64, usize)> {
        let (mut total, mut current, mut next) = (0_u64, 0_u64, index);
        let joined = |at: usize| at == index || matches!(self.gap_before(at), Some(" " | "-"));
        loop {
            let word = self.folded(next).filter(|_| joined(next));
            let after = self.folded(next + 1);
            let started = next > index;
            let cardinal = word.and_then(|w| CARDINAL.get(w).copied()).or_else(|| {
                let counts = current >= 20 || after.is_some_and(|w| SCALE.contains_key(w));
                (word == Some("one") && counts).then_some(1)
            });
            if let Some(value) = cardinal {
                let fits = if value < 10 { current % 10 == 0 && current != 10 } else { current % 100 == 0 };
                if started && !fits || (started && current == 0 && total == 0) {
                    break;
                }
                current += value;
            } else if let Some(zeros) = word.and_then(|w| SCALE.get(w)) {
                let factor = 10_u64.pow(u32::try_from(*zeros).ok()?);
                if *zeros == 2 {
                    current = current.max(1).saturating_mul(factor);
                } else {
                    total = total.saturating_add(current.max(1).saturating_mul(factor));
                    current = 0;
                }
            } else if !(word == Some("and") && started && (current >= 100 || total > 0))
                || !after.is_some_and(|w| CARDINAL.contains_key(w))
            {
                break;
            }
            next += 1;
        }
        (next > index).then_some((total.saturating_add(current), next))
    }

    fn push(&mut self, index: usize, value: String, unit: Option<u8>) {
        let minus = self.is_negative(index);
        let value = if minus { format!("-{value}") } else { value };
        let before = index.checked_sub(1).and_then(|i| self.tokens.get(i));
        let glued = self.gap_before(index) == Some("-")
            && before.is_some_and(|t| t.folded.bytes().all(|b| b.is_ascii_alphabetic()));
        let label = before.map(|t| t.folded.as_str().into());
        self.found.push(Number { value: value.into(), label, glued, unit });
    }

    /// An operator between this number and the one before it, or a comparison sign right before it.
    fn operator(&mut self, index: usize) {
        let Some(gap) = self.gap_before(index) else { return };
        let sign = gap.trim();
        let after_number = self.previous(index).is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()));
        // "9-5" and "2020-2024" are ranges; "9 - 5" is a difference.
        let range = sign == "-" && gap.len() == 1;
        if OPERATORS.contains(&sign) && !range && (after_number || sign.starts_with(['<', '>', '='])) {
            self.found.push(Number { value: sign.into(), label: None, glued: false, unit: None });
        }
    }

    /// A minus sign that is no dash, or "minus" that subtracts from nothing.
    fn is_negative(&self, index: usize) -> bool {
        let Some(token) = self.tokens.get(index) else { return false };
        let before = self.text.get(..token.at.start).unwrap_or("");
        if let Some(rest) = before.strip_suffix('-') {
            return rest.chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '[' | '=' | ':'));
        }
        let minuend = index.checked_sub(2).and_then(|i| self.folded(i));
        matches!(self.previous(index), Some("minus" | "negative"))
            && minuend.is_none_or(|w| !w.ends_with(|c: char| c.is_ascii_digit()))
    }

    /// A unit that begins at the word, or as a sign right before it in the text.
    fn unit_at(&self, next: usize) -> Option<u8> {
        let end = self.tokens.get(next.checked_sub(1)?)?.at.end;
        let rest = self.text.get(end..)?;
        if let Some(sign) =
            rest.trim_start_matches(' ').chars().next().filter(|c| matches!(c, '%' | '€' | '$' | '£' | '¥' | '₹' | '₽'))
        {
            return UNIT.get(sign.encode_utf8(&mut [0; 4]) as &str).copied();
        }
        let gap = self.gap_before(next)?;
        matches!(gap, " " | "-" | "°" | " °").then(|| self.folded(next)).flatten().and_then(|w| UNIT.get(w)).copied()
    }

    /// A currency sign or code right before the word.
    fn unit_before(&self, index: usize) -> Option<u8> {
        let start = self.tokens.get(index)?.at.start;
        let before = self.text.get(..start)?.trim_end_matches([' ', '-']);
        let sign = before.chars().next_back().filter(|c| matches!(c, '€' | '$' | '£' | '¥' | '₹' | '₽' | '₿' | '₩'));
        match sign {
            Some(sign) => UNIT.get(sign.encode_utf8(&mut [0; 4]) as &str).copied(),
            None => self
                .previous(index)
                .filter(|w| matches!(*w, "usd" | "eur" | "gbp" | "jpy" | "inr" | "us"))
                .and_then(|w| UNIT.get(w))
                .copied(),
        }
    }

    fn folded(&self, index: usize) -> Option<&str> {
        self.tokens.get(index).map(|t| t.folded.as_str())
    }

    fn previous(&self, index: usize) -> Option<&str> {
        self.folded(index.checked_sub(1)?)
    }

    /// The text between the word and the one before it.
    fn gap_before(&self, index: usize) -> Option<&str> {
        let before = self.tokens.get(index.checked_sub(1)?)?;
        self.text.get(before.at.end..self.tokens.get(index)?.at.start)
    }
}

/// Digits without thousands separators; a decimal comma becomes a point; ".00" goes.
fn plain(number: &str) -> Box<str> {
    let commas = number.matches(',').count();
    let grouped = number.split(',').skip(1).all(|g| g.split('.').next().is_some_and(|d| d.len() == 3));
    let mut value = if commas == 0 || grouped {
        number.replace(',', "")
    } else if commas == 1 && !number.contains('.') {
        number.replace(',', ".")
    } else {
        number.to_owned()
    };
    value.retain(|c| !matches!(c, '\'' | '_'));
    if value.matches('.').count() == 1 && value.ends_with(".00") {
        value.truncate(value.len() - 3);
    }
    value.into()
}

/// The number times a power of ten, as digits.
fn scaled(number: &str, zeros: usize) -> String {
    let value = plain(number);
    let (whole, fraction) = value.split_once('.').unwrap_or((&value, ""));
    if fraction.len() > zeros || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{value}e{zeros}");
    }
    let digits = format!("{whole}{fraction}{}", "0".repeat(zeros - fraction.len()));
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}
