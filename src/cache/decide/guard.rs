//! The guards: what stands between a near neighbour and its answer being served.
//!
//! Each looks at the new prompt and at a candidate's and says whether the two ask for different answers. A guard can only
//! turn a hit into a miss, has a name, and can be switched off. The verdict is the same whichever text is the new one,
//! and a text always agrees with itself. They hold no state and never fail.

use std::fmt;
use std::str::FromStr;

use super::entities::Kind;
use super::evidence::GuardSet;
use super::extent;
use super::features::{Features, Form, Reading};
use super::language::{self, Language, Script};
use super::literals;
use super::polarity;
use super::substitution;

/// Words of each text that the other lacks, up to which pairs of them are compared. Beyond, the texts are no near
/// repeats and the guard of opposites refuses.
const MAX_DIFFERING: usize = 48;

/// A guard, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// Numbers, ordinals, identifiers with digits and their units differ.
    Numbers,
    /// Both name a weekday, a month or a relative day, and not the same.
    Dates,
    /// One is negated, the other not.
    Negation,
    /// A word of one and a word of the other are opposites or exclude each other.
    Antonyms,
    /// Each names something the other does not; or code, a quotation or an address differs.
    Entities,
    /// Source and target are swapped.
    Direction,
    /// One is more than twice as long as the other.
    Length,
    /// The languages or scripts differ.
    Language,
    /// One is the other with much added.
    Containment,
    /// A word with a topic is exchanged for another in an unchanged frame.
    Substitution,
}

/// Not the name of a guard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no guard is called {0:?}; there are numbers, dates, negation, antonyms, entities, direction, length, language, containment, substitution"
)]
pub struct UnknownGuard(pub String);

/// Why a guard refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The guard.
    pub guard: Guard,
    /// What differs, as in `7781 ≠ 7782`. Contains words of the prompts: not for logs that must not hold them.
    pub evidence: String,
}

/// What one guard says of a pair of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It sees no difference.
    Pass,
    /// It sees one.
    Reject,
    /// It cannot judge texts in this language or script.
    Abstain,
    /// It is switched off.
    Off,
}

/// What one guard says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The guard.
    pub guard: Guard,
    /// What it says.
    pub verdict: Opinion,
    /// What differs; empty unless it rejects.
    pub evidence: String,
}

/// Which guards are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards(u16);

impl Guard {
    /// All, in the order in which they are asked.
    pub const ALL: [Self; 10] = [
        Self::Numbers,
        Self::Dates,
        Self::Negation,
        Self::Antonyms,
        Self::Entities,
        Self::Direction,
        Self::Length,
        Self::Language,
        Self::Containment,
        Self::Substitution,
    ];

    /// The name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Dates => "dates",
            Self::Negation => "negation",
            Self::Antonyms => "antonyms",
            Self::Entities => "entities",
            Self::Direction => "direction",
            Self::Length => "length",
            Self::Language => "language",
            Self::Containment => "containment",
            Self::Substitution => "substitution",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Guard {
    type Err = UnknownGuard;

    fn from_str(name: &str) -> Result<Self, UnknownGuard> {
        Self::ALL.into_iter().find(|guard| guard.as_str() == name).ok_or_else(|| UnknownGuard(name.to_owned()))
    }
}

impl Opinion {
    /// Lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Reject => "reject",
            Self::Abstain => "abstain",
            Self::Off => "off",
        }
    }
}

impl Default for Guards {
    fn default() -> Self {
        Self::all()
    }
}

impl Guards {
    /// Every guard is on.
    pub const fn all() -> Self {
        Self(u16::MAX)
    }

    /// Every guard but those is on.
    pub fn without(off: &[Guard]) -> Self {
        Self(off.iter().fold(u16::MAX, |on, guard| on & !guard.bit()))
    }

    /// Whether the guard is on.
    pub const fn is_on(self, guard: Guard) -> bool {
        self.0 & guard.bit() != 0
    }

    /// Asks each guard that is on, in order, until one objects.
    ///
    /// # Errors
    /// The first objection.
    pub fn check(&self, new: &Features, candidate: &Features) -> Result<(), Objection> {
        self.check_unless(new, candidate, |_| false)
    }

    /// [`Self::check`] without the guards for which `moot` holds.
    ///
    /// # Errors
    /// The first objection.
    pub fn check_unless(
        &self,
        new: &Features,
        candidate: &Features,
        moot: impl Fn(Guard) -> bool,
    ) -> Result<(), Objection> {
        let pair = match Pair::of(new, candidate) {
            Comparable::Equal => return Ok(()),
            other => other,
        };
        let on = Guard::ALL.into_iter().filter(|guard| self.is_on(*guard) && !moot(*guard));
        let mut objections = on.filter_map(|guard| pair.objection(guard).map(|evidence| Objection { guard, evidence }));
        objections.next().map_or(Ok(()), Err)
    }

    /// All guards that are on and object.
    pub fn objections(&self, new: &Features, candidate: &Features) -> GuardSet {
        match Pair::of(new, candidate) {
            Comparable::Equal => GuardSet::default(),
            pair => Guard::ALL.into_iter().filter(|g| self.is_on(*g) && pair.objection(*g).is_some()).collect(),
        }
    }

    /// What every guard says, in order. Some finding rejects exactly if [`Self::check`] objects.
    pub fn explain(&self, new: &Features, candidate: &Features) -> Vec<Finding> {
        let pair = Pair::of(new, candidate);
        let find = |guard| {
            let (verdict, evidence) = match &pair {
                _ if !self.is_on(guard) => (Opinion::Off, String::new()),
                Comparable::Equal => (Opinion::Pass, String::new()),
                pair => match pair.objection(guard) {
                    Some(evidence) => (Opinion::Reject, evidence),
                    None if matches!(pair, Comparable::Pair(p) if p.abstains(guard)) => {
                        (Opinion::Abstain, String::new())
                    }
                    None => (Opinion::Pass, String::new()),
                },
            };
            Finding { guard, verdict, evidence }
        };
        Guard::ALL.into_iter().map(find).collect()
    }
}

/// Two texts as far as they can be compared.
enum Comparable<'a> {
    Equal,
    /// One is beyond what is read, and they are not equal: every guard refuses.
    TooLong,
    Pair(Pair<'a>),
}

impl Comparable<'_> {
    fn objection(&self, guard: Guard) -> Option<String> {
        match self {
            Self::Equal => None,
            Self::TooLong => Some("too long to compare, and not equal".to_owned()),
            Self::Pair(pair) => pair.objection(guard),
        }
    }
}

/// Two texts side by side, and the words of each that the other lacks.
struct Pair<'a> {
    new: &'a Reading,
    stored: &'a Reading,
    only_new: Vec<u16>,
    only_stored: Vec<u16>,
}

impl<'a> Pair<'a> {
    fn of(new: &'a Features, stored: &'a Features) -> Comparable<'a> {
        match (&new.0, &stored.0) {
            (Form::TooLong(a), Form::TooLong(b)) if a == b => Comparable::Equal,
            (Form::Read(a), Form::Read(b)) if a.text == b.text && a.hidden == b.hidden => Comparable::Equal,
            (Form::Read(new), Form::Read(stored)) => {
                let (only_new, only_stored) = new.differing(stored);
                Comparable::Pair(Self { new, stored, only_new, only_stored })
            }
            _ => Comparable::TooLong,
        }
    }

    /// What the guard objects to.
    fn objection(&self, guard: Guard) -> Option<String> {
        let (new, stored) = (self.new, self.stored);
        match guard {
            Guard::Numbers => new.numbers.compare(&stored.numbers),
            Guard::Dates => new.dates.compare(stored.dates),
            Guard::Negation => {
                let odd = (new.negations ^ stored.negations) & 1 == 1;
                odd.then(|| format!("{} / {} negations", new.negations, stored.negations))
            }
            Guard::Antonyms => self.opposites(),
            Guard::Entities => self.different_literals().or_else(|| self.different_names()),
            Guard::Direction => {
                new.reversed_link(stored).map(|(from, to)| format!("{} → {} is reversed", cut(from), cut(to)))
            }
            Guard::Length => extent::compare_lengths(new.lengths(), stored.lengths()),
            Guard::Language => language::compare((new.script, new.language), (stored.script, stored.language)),
            Guard::Containment => self.added_text(),
            Guard::Substitution => self.exchanged_word(),
        }
    }

    /// Whether the guard knows too little of the language of one of the texts. It may still object.
    fn abstains(&self, guard: Guard) -> bool {
        let foreign = |r: &Reading| r.language.is_some_and(|l| l != Language::English);
        let strange = |r: &Reading| r.script.is_some_and(|s| s != Script::Latin);
        let unread = |r: &Reading| {
            matches!(
                r.script,
                Some(
                    Script::Arabic
                        | Script::Hebrew
                        | Script::Indic
                        | Script::Thai
                        | Script::Hangul
                        | Script::Kana
                        | Script::Greek
                        | Script::Other
                )
            )
        };
        let either = |test: &dyn Fn(&Reading) -> bool| test(self.new) || test(self.stored);
        match guard {
            Guard::Negation => either(&unread),
            Guard::Dates | Guard::Antonyms | Guard::Direction | Guard::Substitution => {
                either(&foreign) || either(&strange)
            }
            Guard::Language => either(&|r| r.script == Some(Script::Latin) && r.language.is_none()),
            _ => false,
        }
    }

    fn opposites(&self) -> Option<String> {
        let (new, stored) = (self.new, self.stored);
        let show = |r: &Reading, word: Option<u16>| word.map_or("…", |w| cut(r.word(w))).to_owned();
        let show = |a, b| format!("{} / {}", show(new, a), show(stored, b));
        if let Some((a, b)) = polarity::split_contrast(&new.contrasts, &stored.contrasts) {
            return Some(show(a, b));
        }
        if self.only_new.len().min(self.only_stored.len()) > MAX_DIFFERING {
            return Some("too many words differ".to_owned());
        }
        let folded = |r: &Reading, words: &[u16]| -> Vec<(u16, String)> {
            words.iter().filter(|w| r.has_topic(**w)).map(|w| (*w, r.word(*w).to_lowercase())).collect()
        };
        let theirs = folded(stored, &self.only_stored);
        folded(new, &self.only_new).iter().find_map(|(a, word_a)| {
            let opposite = theirs.iter().find(|(_, word_b)| polarity::are_opposites(word_a, word_b));
            opposite.map(|(b, _)| show(Some(*a), Some(*b)))
        })
    }

    fn different_literals(&self) -> Option<String> {
        let (new, stored) = (self.new, self.stored);
        let missing = literals::missing(&new.text, &new.literals, &stored.text)
            .or_else(|| literals::missing(&stored.text, &stored.literals, &new.text));
        if let Some(literal) = missing {
            return Some(format!("only one has {}", cut(literal)));
        }
        if new.hidden != stored.hidden {
            return Some("only one hides characters, or not the same".to_owned());
        }
        if new.layout != stored.layout {
            return Some("indentation differs".to_owned());
        }
        new.case_bearing.compare(stored.case_bearing).map(|word| format!("{word} / {}", word.to_uppercase()))
    }

    fn different_names(&self) -> Option<String> {
        let (new, stored) = (self.new, self.stored);
        let first = |r: &Reading, words: &[u16], kind| words.iter().copied().find(|w| r.kind(*w) == kind);
        let name = |r: &Reading, words: &[u16]| first(r, words, Kind::Name);
        let any = |r: &Reading, words: &[u16]| name(r, words).or_else(|| first(r, words, Kind::MayBeName));
        let (mine, theirs) = (name(new, &self.only_new), name(stored, &self.only_stored));
        let (a, b) = match (mine, theirs) {
            (Some(a), _) => (a, any(stored, &self.only_stored)?),
            (None, Some(b)) => (any(new, &self.only_new)?, b),
            (None, None) => return None,
        };
        Some(format!("{} ≠ {}", cut(new.word(a)), cut(stored.word(b))))
    }

    fn exchanged_word(&self) -> Option<String> {
        let (new, stored) = (self.new, self.stored);
        let (a, b) = (new.topic_words(), stored.topic_words());
        let (a, b) = substitution::exchanged(&a, &b, new.frame_distance(stored))?;
        Some(format!("{} / {}", cut(&a), cut(&b)))
    }

    fn added_text(&self) -> Option<String> {
        let added = |r: &'a Reading, words: &[u16]| -> Vec<&'a str> {
            let words = words.iter().filter(|w| r.has_topic(**w) || extent::instructs(r.word(**w))).map(|w| r.word(*w));
            words.filter(|word| !extent::is_light(word)).collect()
        };
        let lacking = |r: &Reading, words: &[u16]| words.iter().filter(|w| r.has_topic(**w)).count();
        let (new, stored) = (self.new, self.stored);
        extent::compare_appended(&new.text, &stored.text)
            .or_else(|| {
                extent::compare_containment(
                    lacking(stored, &self.only_stored),
                    stored.topics(),
                    &added(new, &self.only_new),
                )
            })
            .or_else(|| {
                extent::compare_containment(
                    lacking(new, &self.only_new),
                    new.topics(),
                    &added(stored, &self.only_stored),
                )
            })
    }
}

/// At most 40 characters of a word or passage, for evidence.
fn cut(text: &str) -> &str {
    text.char_indices().nth(40).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_names_what_differs() {
        let evidence = |a, b| Guards::all().check(&Features::of(a), &Features::of(b)).unwrap_err().evidence;
        assert_eq!(evidence("order 7781", "order 7782"), "7781 ≠ 7782");
        assert_eq!(evidence("open on Saturday", "open on Sunday"), "saturday ≠ sunday");
        assert_eq!(evidence("turn on wifi", "turn off wifi"), "on / off");
        assert_eq!(evidence("meet next week", "meet last week"), "next week ≠ last week");
        assert_eq!(evidence("pay by PayPal", "pay by Klarna"), "PayPal ≠ Klarna");
        assert_eq!(evidence("train London to Paris", "train Paris to London"), "London → Paris is reversed");
    }
}
