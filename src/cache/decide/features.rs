//! What the guards need to know of one text, read once and kept with its point.
//!
//! Compact, because every stored prompt has one: the canonical text, its words by position, and short sorted lists.
//! A text beyond the caps is kept as a digest only and agrees with nothing but itself, so hostile input costs little and
//! never passes by being too much to look at.

use super::dates::Dates;
use super::direction::{self, ANYWHERE, Link};
use super::entities::{self, CaseBearing, Kind};
use super::hidden;
use super::language::{Language, Poll, Script};
use super::literals;
use super::numbers::Numbers;
use super::polarity::{self, Contrast};
use super::substitution::Topic;
use super::text::canonical;
use super::words::{self, Token};

/// Longest text that is read, in bytes after normalisation.
const MAX_BYTES: usize = 16 << 10;
/// Most numbers and directed links of a text that is read.
const MAX_LISTED: usize = 1_024;
/// Most literals: each is searched for in the other text.
const MAX_LITERALS: usize = 256;

/// What the guards know of one text.
#[derive(Debug)]
pub struct Features(pub(super) Form);

#[derive(Debug)]
pub(super) enum Form {
    Read(Box<Reading>),
    /// Beyond the caps: digest of the canonical text, case and blanks included, and of what it hides.
    TooLong(blake3::Hash),
}

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) text: Box<str>,
    /// Characters of the text, and of its words with a topic.
    chars: u16,
    topic_chars: u16,
    /// Stems of all words, one after the other.
    stems: Box<str>,
    words: Box<[Word]>,
    /// One index per distinct stem, in the order of the stems.
    distinct: Box<[u16]>,
    pub(super) numbers: Numbers,
    pub(super) dates: Dates,
    pub(super) negations: u16,
    pub(super) contrasts: Box<[Contrast]>,
    pub(super) literals: Box<[(u16, u16)]>,
    pub(super) layout: u64,
    /// See [`hidden::trace`].
    pub(super) hidden: u64,
    pub(super) case_bearing: CaseBearing,
    links: Box<[Link]>,
    pub(super) script: Option<Script>,
    pub(super) language: Option<Language>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    start: u16,
    end: u16,
    stem: u16,
    stem_len: u8,
    stop: bool,
    kind: Kind,
}

impl Features {
    /// Reads a text. Linear in its length, whatever it contains.
    pub fn of(text: &str) -> Self {
        let canonical = canonical(text);
        let hidden = hidden::trace(text);
        let reading = if canonical.len() > MAX_BYTES { None } else { Reading::of(&canonical, hidden) };
        let digest = || {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&hidden.to_le_bytes()).update(canonical.as_bytes());
            hasher.finalize()
        };
        Self(reading.map_or_else(|| Form::TooLong(digest()), |r| Form::Read(Box::new(r))))
    }

    /// Bytes this value occupies, its own included.
    pub fn memory_bytes(&self) -> usize {
        let heap = match &self.0 {
            Form::Read(reading) => size_of::<Reading>() + reading.heap_bytes(),
            Form::TooLong(_) => 0,
        };
        size_of::<Self>() + heap
    }
}

impl Reading {
    /// Nothing if the text is beyond a cap.
    fn of(text: &str, hidden: u64) -> Option<Self> {
        let tokens = words::cut(text);
        let script = Script::dominant(text);
        let mut poll = Poll::default();
        tokens.iter().for_each(|t| poll.count(&t.folded));
        let language = poll.winner();
        let kinds = entities::kinds(text, &tokens, script);
        let mut stems = String::with_capacity(text.len());
        let mut words = Vec::with_capacity(tokens.len());
        for (token, kind) in tokens.iter().zip(kinds) {
            words.push(Word::of(token, kind, &mut stems)?);
        }
        let in_order: Vec<&str> = words.iter().map(|w| w.stem(&stems)).collect();
        let distinct = distinct(&in_order);
        let links = links(text, &tokens, &in_order, &distinct)?;
        let contrasts = polarity::contrasts(&in_order);
        let topic_chars: usize = tokens.iter().filter(|t| !t.stop).map(|t| t.folded.chars().count()).sum();
        let numbers = Numbers::of(text, &tokens);
        let spans = literals::literals(text, &tokens, script);
        if spans.len() > MAX_LITERALS || numbers.len() > MAX_LISTED {
            return None;
        }
        let narrow =
            |span: &std::ops::Range<usize>| Some((u16::try_from(span.start).ok()?, u16::try_from(span.end).ok()?));
        Some(Self {
            text: text.into(),
            chars: u16::try_from(text.chars().count()).ok()?,
            topic_chars: u16::try_from(topic_chars).ok()?,
            words: words.into(),
            distinct: distinct.into(),
            numbers,
            dates: Dates::of(text, &tokens),
            negations: polarity::negations(&tokens, language),
            contrasts,
            literals: spans.iter().map(narrow).collect::<Option<_>>()?,
            layout: literals::layout(text),
            hidden,
            case_bearing: CaseBearing::of(text, &tokens),
            links,
            script,
            language,
            stems: stems.into(),
        })
    }

    /// Characters of words with a topic, and of the whole text.
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.topic_chars.into(), self.chars.into())
    }

    /// The word as it stands in the text.
    pub(super) fn word(&self, index: u16) -> &str {
        let word = self.words.get(usize::from(index));
        word.and_then(|w| self.text.get(usize::from(w.start)..usize::from(w.end))).unwrap_or("")
    }

    /// The stem of the word.
    pub(super) fn stem(&self, index: u16) -> &str {
        self.words.get(usize::from(index)).map_or("", |w| w.stem(&self.stems))
    }

    /// Whether the word carries a topic.
    pub(super) fn has_topic(&self, index: u16) -> bool {
        self.words.get(usize::from(index)).is_some_and(|w| !w.stop)
    }

    /// What the word is to the guard of entities; the strongest of its occurrences.
    pub(super) fn kind(&self, index: u16) -> Kind {
        self.words.get(usize::from(index)).map_or(Kind::Plain, |w| w.kind)
    }

    /// One index per distinct stem, in the order of the stems.
    pub(super) fn distinct(&self) -> &[u16] {
        &self.distinct
    }

    /// The words with a topic, in their order; without names and numbers, which have guards of their own.
    pub(super) fn topic_words(&self) -> Vec<Topic<'_>> {
        let topic = |word: &Word| {
            let stem = word.stem(&self.stems);
            let own = word.stop || word.kind == Kind::Name || stem.starts_with(|c: char| c.is_ascii_digit());
            let spelt = self.text.get(usize::from(word.start)..usize::from(word.end)).unwrap_or("");
            (!own).then(|| Topic { stem, word: spelt.to_lowercase() })
        };
        self.words.iter().filter_map(topic).collect()
    }

    /// How many words without a topic only one of the texts has, each counted as often as it occurs.
    pub(super) fn frame_distance(&self, other: &Self) -> usize {
        fn sorted(reading: &Reading) -> Vec<&str> {
            let mut stems: Vec<&str> =
                reading.words.iter().filter(|w| w.stop).map(|w| w.stem(&reading.stems)).collect();
            stems.sort_unstable();
            stems
        }
        let (mine, theirs) = (sorted(self), sorted(other));
        let (mut left, mut right) = (mine.iter().peekable(), theirs.iter().peekable());
        let mut distance = 0;
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let order = a.cmp(b);
            distance += usize::from(order.is_ne());
            if order.is_le() {
                left.next();
            }
            if order.is_ge() {
                right.next();
            }
        }
        distance + left.count() + right.count()
    }

    /// How many different words with a topic there are.
    pub(super) fn topics(&self) -> usize {
        self.distinct.iter().filter(|index| self.has_topic(**index)).count()
    }

    /// Words of each text that the other lacks, one of each stem.
    pub(super) fn differing(&self, other: &Self) -> (Vec<u16>, Vec<u16>) {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let (mut left, mut right) = (self.distinct.iter().peekable(), other.distinct.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => self.stem(**a).cmp(other.stem(**b)),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return (mine, theirs),
            };
            if order.is_le() {
                mine.extend(left.next().filter(|_| order.is_lt()));
            }
            if order.is_ge() {
                theirs.extend(right.next().filter(|_| order.is_gt()));
            }
        }
    }

    /// A link of this text that the other has only the other way round, as the words from and to.
    pub(super) fn reversed_link(&self, other: &Self) -> Option<(&str, &str)> {
        let found = self.links.iter().find(|link| {
            let (kind, from, to) = self.stems_of(**link);
            let reverse = (kind, to, from);
            from != to && other.has_link(reverse) && !other.has_link((kind, from, to)) && !self.has_link(reverse)
        })?;
        Some((self.link_word(found.from), self.link_word(found.to)))
    }

    fn has_link(&self, link: (u8, &str, &str)) -> bool {
        self.links.binary_search_by(|other| self.stems_of(*other).cmp(&link)).is_ok()
    }

    fn stems_of(&self, link: Link) -> (u8, &str, &str) {
        (link.kind, self.end_of_link(link.from), self.end_of_link(link.to))
    }

    fn end_of_link(&self, index: u16) -> &str {
        if index == ANYWHERE { "" } else { self.stem(index) }
    }

    fn link_word(&self, index: u16) -> &str {
        if index == ANYWHERE { "…" } else { self.word(index) }
    }

    fn heap_bytes(&self) -> usize {
        self.text.len()
            + self.stems.len()
            + size_of_val(&*self.words)
            + size_of_val(&*self.distinct)
            + self.numbers.heap_bytes()
            + size_of_val(&*self.contrasts)
            + size_of_val(&*self.literals)
            + size_of_val(&*self.links)
    }
}

impl Word {
    fn of(token: &Token, kind: Kind, stems: &mut String) -> Option<Self> {
        let stem = words::stem(&token.folded);
        let begin = u16::try_from(stems.len()).ok()?;
        // A word too long for its length to fit ends the reading: such a text is no prose.
        let stem_len = u8::try_from(stem.len()).ok()?;
        stems.push_str(&stem);
        let (start, end) = (u16::try_from(token.at.start).ok()?, u16::try_from(token.at.end).ok()?);
        Some(Self { start, end, stem: begin, stem_len, stop: token.stop, kind })
    }

    fn stem<'a>(&self, stems: &'a str) -> &'a str {
        let start = usize::from(self.stem);
        stems.get(start..start + usize::from(self.stem_len)).unwrap_or("")
    }
}

/// The first index of each distinct stem, in the order of the stems.
fn distinct(stems: &[&str]) -> Vec<u16> {
    let stem = |index: &u16| stems.get(usize::from(*index)).copied().unwrap_or("");
    let mut indexes: Vec<u16> = (0..u16::try_from(stems.len()).unwrap_or(u16::MAX)).collect();
    indexes.sort_by(|a, b| stem(a).cmp(stem(b)));
    indexes.dedup_by(|a, b| stem(a) == stem(b));
    indexes
}

/// The directed links in the order of their stems, each once. Nothing if there are too many.
fn links(text: &str, tokens: &[Token], stems: &[&str], distinct: &[u16]) -> Option<Box<[Link]>> {
    let stem = |index: u16| if index == ANYWHERE { "" } else { stems.get(usize::from(index)).copied().unwrap_or("") };
    let first = |index: u16| match distinct.binary_search_by(|d| stem(*d).cmp(stem(index))) {
        Ok(at) if index != ANYWHERE => distinct.get(at).copied().unwrap_or(index),
        _ => index,
    };
    let mut links = direction::links(text, tokens);
    links.iter_mut().for_each(|link| (link.from, link.to) = (first(link.from), first(link.to)));
    let key = |link: &Link| (link.kind, stem(link.from), stem(link.to));
    links.sort_by(|a, b| key(a).cmp(&key(b)));
    links.dedup();
    (links.len() <= MAX_LISTED).then(|| links.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Guard, Guards};
    use super::*;

    #[test]
    fn a_text_beyond_the_cap_agrees_only_with_itself() {
        let long = "The quick brown fox. ".repeat(50_000);
        let other = long.replacen("quick", "quack", 1);
        let (a, b, c) = (Features::of(&long), Features::of(&format!("  {long}\u{200b}")), Features::of(&other));
        assert_eq!(Guards::all().check(&a, &b), Ok(()));
        assert!(Guards::all().check(&a, &c).is_err());
        let only_dates: Vec<Guard> = Guard::ALL.into_iter().filter(|g| *g != Guard::Dates).collect();
        assert!(Guards::without(&only_dates).check(&a, &c).is_err(), "any guard that is on refuses");
        assert!(Guards::without(&Guard::ALL).check(&a, &c).is_ok());
        assert!(a.memory_bytes() < 200);
    }

    #[test]
    fn a_short_prompt_takes_little_memory() {
        let features = Features::of("How much is a return ticket from London to Manchester on Saturday?");
        assert!(features.memory_bytes() < 800, "{} bytes", features.memory_bytes());
        let worst = Features::of(&"7 a ".repeat(250));
        assert!(worst.memory_bytes() < 64 << 10, "{} bytes", worst.memory_bytes());
    }
}
