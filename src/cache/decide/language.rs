//! Which script a text is written in, and, where short common words tell, which language.
//!
//! Part of the guards: an answer in another language is a wrong answer even when the question is the same. The script is
//! certain; the language is a vote of common words and stays unknown unless one language is clearly ahead.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A writing system, as far as the guards tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Script {
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    Indic,
    Thai,
    Hangul,
    Kana,
    Han,
    Other,
}

const SCRIPTS: [Script; 11] = [
    Script::Latin,
    Script::Greek,
    Script::Cyrillic,
    Script::Hebrew,
    Script::Arabic,
    Script::Indic,
    Script::Thai,
    Script::Hangul,
    Script::Kana,
    Script::Han,
    Script::Other,
];

impl Script {
    /// The script of a letter; nothing for digits, marks and signs.
    pub(super) fn of(c: char) -> Option<Self> {
        if c.is_ascii() {
            return c.is_ascii_alphabetic().then_some(Self::Latin);
        }
        if !c.is_alphabetic() {
            return None;
        }
        Some(match u32::from(c) {
            0x00aa..=0x02ff | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff | 0xab30..=0xab6f => Self::Latin,
            0x0370..=0x03ff | 0x1f00..=0x1fff => Self::Greek,
            0x0400..=0x052f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Self::Cyrillic,
            0x0590..=0x05ff => Self::Hebrew,
            0x0600..=0x077f | 0x08a0..=0x08ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Self::Arabic,
            0x0900..=0x0dff => Self::Indic,
            0x0e00..=0x0e7f => Self::Thai,
            0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7af => Self::Hangul,
            0x3040..=0x30ff | 0x31f0..=0x31ff => Self::Kana,
            0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff | 0x3005..=0x3007 => Self::Han,
            _ => Self::Other,
        })
    }

    /// The script of most letters of the text. Any kana makes a text of Chinese characters Japanese.
    pub(super) fn dominant(text: &str) -> Option<Self> {
        let mut counts = [0_u32; SCRIPTS.len()];
        for script in text.chars().filter_map(Self::of) {
            if let Some(count) = counts.get_mut(script as usize) {
                *count += 1;
            }
        }
        let count = |script: Self| counts.get(script as usize).copied().unwrap_or(0);
        let most = SCRIPTS.iter().copied().filter(|s| count(*s) > 0).max_by_key(|s| count(*s))?;
        Some(if most == Self::Han && count(Self::Kana) > 0 { Self::Kana } else { most })
    }

    /// Lower-case name for evidence.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Latin => "latin",
            Self::Greek => "greek",
            Self::Cyrillic => "cyrillic",
            Self::Hebrew => "hebrew",
            Self::Arabic => "arabic",
            Self::Indic => "indic",
            Self::Thai => "thai",
            Self::Hangul => "hangul",
            Self::Kana => "japanese",
            Self::Han => "chinese",
            Self::Other => "other",
        }
    }
}

/// A language that the list of common words knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
    French,
    Spanish,
    Italian,
    Portuguese,
    Dutch,
    Swedish,
    Polish,
    Turkish,
}

/// Common words, told apart as well as one can: a word that two languages share votes for both.
const COMMON: [(Language, &str); 10] = [
    (
        Language::English,
        "the a an and of to is are was do does did how what where when which who why my your you i can could would \
         should for with from in on at it this that have has be me we they will",
    ),
    (
        Language::German,
        "der die das und ist sind ein eine einen einem einer ich du wir sie mein meine meinen ihr nicht wie was wo wann \
         warum welche kann kannst können für mit von zu zum zur den dem des auf aus bei nach über im am es mir mich bitte \
         viel kostet habe haben",
    ),
    (
        Language::French,
        "le la les un une des du de et est sont je tu nous vous il elle mon ma mes votre vos notre ne pas comment que qui \
         quoi où quand pourquoi quel quelle puis peux pour avec dans sur au aux ce cette en à mes combien faire ai",
    ),
    (
        Language::Spanish,
        "el la los las un una unos y es son yo mi mis tu su de del al que qué cómo cuándo dónde por para con en no se me \
         puedo puede cuál cuánto cuesta está hay lo le sin más",
    ),
    (
        Language::Italian,
        "il lo la i gli le un uno una e è sono io mio mia miei di del della dei che come cosa quando dove perché per con \
         in nel nella non posso può quanto costa si mi al alla da ho",
    ),
    (
        Language::Portuguese,
        "o a os as um uma e é são eu meu minha meus de do da dos das que como quando onde por para com em no na não posso \
         pode qual quanto custa está se me ao à você",
    ),
    (
        Language::Dutch,
        "de het een en is zijn ik je jij wij mijn jouw uw niet hoe wat waar wanneer waarom welke kan kunt voor met van \
         naar op aan in om te er bij dat dit die deze hoeveel kost heb",
    ),
    (
        Language::Swedish,
        "och är en ett jag du vi min mitt mina din inte hur vad var när varför vilken kan för med från till på av i om \
         det den de som har att",
    ),
    (
        Language::Polish,
        "i w na z do jest są ja mój moje moja nie jak co gdzie kiedy dlaczego który mogę można dla od po czy się to ten \
         ile kosztuje o",
    ),
    (
        Language::Turkish,
        "ve bir bu ben benim için ile nasıl ne nerede zaman neden hangi mi mı mu mü değil var yok da de kadar ol olan çok",
    ),
];

static VOTES: LazyLock<HashMap<&'static str, u16>> = LazyLock::new(|| {
    let mut votes = HashMap::new();
    for (language, words) in COMMON {
        for word in words.split_whitespace() {
            *votes.entry(word).or_insert(0) |= 1 << language as u16;
        }
    }
    votes
});

/// Votes needed before a language is named, and votes it must be ahead of the next.
const ENOUGH: u32 = 2;

/// Collects the votes of case-folded words.
#[derive(Default)]
pub(super) struct Poll([u32; COMMON.len()]);

impl Poll {
    /// Counts one word.
    pub(super) fn count(&mut self, folded: &str) {
        if let Some(languages) = VOTES.get(folded) {
            for (index, votes) in self.0.iter_mut().enumerate() {
                *votes += u32::from(languages >> index & 1);
            }
        }
    }

    /// The language that is clearly ahead, if one is.
    pub(super) fn winner(&self) -> Option<Language> {
        let (best, (language, _)) = self.0.iter().zip(&COMMON).max_by_key(|(votes, _)| **votes)?;
        let next = self.0.iter().zip(&COMMON).filter(|(_, (l, _))| l != language).map(|(votes, _)| *votes).max()?;
        (*best >= next + ENOUGH).then_some(*language)
    }
}

impl Language {
    /// Two-letter code of ISO 639-1, for evidence.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
            Self::Spanish => "es",
            Self::Italian => "it",
            Self::Portuguese => "pt",
            Self::Dutch => "nl",
            Self::Swedish => "sv",
            Self::Polish => "pl",
            Self::Turkish => "tr",
        }
    }
}

/// Why the languages or scripts of two texts differ, if they certainly do.
pub(super) fn compare(
    new: (Option<Script>, Option<Language>),
    stored: (Option<Script>, Option<Language>),
) -> Option<String> {
    match (new.0, stored.0) {
        (Some(a), Some(b)) if a != b => return Some(format!("{} ≠ {}", a.as_str(), b.as_str())),
        _ => {}
    }
    match (new.1, stored.1) {
        (Some(a), Some(b)) if a != b => Some(format!("{} ≠ {}", a.as_str(), b.as_str())),
        _ => None,
    }
}
