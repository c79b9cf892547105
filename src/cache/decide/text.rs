//! Text before anything is read from it: Unicode forms, invisible characters, and the normalised prompt of the second
//! exact tier.
//!
//! Sits at the start of a decision; everything else in this directory reads only what [`canonical`] returns, so two
//! prompts that look alike on a screen are compared alike. Linear in the length of the text. It must never drop a
//! character that can be seen.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::{IsNormalized, is_nfkc_quick};

/// The text in NFKC, without invisible characters, with plain apostrophes, decimal digits of every script as ASCII, and
/// without blanks at its ends. Case and inner blanks are kept.
pub(super) fn canonical(text: &str) -> String {
    let composed: String = match is_nfkc_quick(text.chars()) {
        // Before raised digits become plain ones: "10²" is not "102".
        _ if text.contains(is_set_apart) => {
            let apart: String = text.chars().filter(|c| !is_invisible(*c)).fold(String::new(), set_apart);
            apart.nfkc().filter(|c| !is_invisible(*c)).map(plain).collect()
        }
        IsNormalized::Yes => text.chars().filter(|c| !is_invisible(*c)).map(plain).collect(),
        // Invisible characters go first as well as last: one between a letter and its accent would stop them composing.
        _ => text.chars().filter(|c| !is_invisible(*c)).nfkc().filter(|c| !is_invisible(*c)).map(plain).collect(),
    };
    composed.trim().to_owned()
}

/// The key of the second exact tier: NFKC, case folded, blanks collapsed to one space, final punctuation dropped.
///
/// Two prompts that agree here may still differ in case or blanks where those matter (code, quotations, paths), so a
/// match must pass the guards like any other candidate.
pub fn normalise(text: &str) -> String {
    let canonical = canonical(text);
    let mut folded = String::with_capacity(canonical.len());
    for c in canonical.chars() {
        if c.is_whitespace() {
            if !folded.ends_with(' ') {
                folded.push(' ');
            }
        } else {
            fold_into(&mut folded, c);
        }
    }
    let kept = folded.trim_end_matches(|c: char| c.is_whitespace() || is_final_punctuation(c)).len();
    folded.truncate(kept);
    folded
}

/// Appends the case-folded character: lower case, with the two folds lower case lacks and that occur in prose.
pub(super) fn fold_into(out: &mut String, c: char) {
    match c {
        'ß' | 'ẞ' => out.push_str("ss"),
        'ς' => out.push('σ'),
        _ if c.is_ascii() => out.push(c.to_ascii_lowercase()),
        // The dotted capital I lowers to two characters; the mark would make one word look like two.
        _ => out.extend(c.to_lowercase().filter(|lower| *lower != '\u{307}')),
    }
}

/// Digits that are raised, lowered or in a ring, and fractions.
fn is_set_apart(c: char) -> bool {
    !c.is_ascii() && !c.is_alphabetic() && c.is_numeric() && (Place::of(c).is_some())
}

/// Where a digit stands that is not on the line.
#[derive(Clone, Copy)]
enum Place {
    Raised,
    Lowered,
    Alone,
}

impl Place {
    fn of(c: char) -> Option<Self> {
        Some(match c {
            '²' | '³' | '¹' | '\u{2070}'..='\u{2079}' => Self::Raised,
            '\u{2080}'..='\u{2089}' => Self::Lowered,
            '¼'..='¾' | '\u{2150}'..='\u{215f}' | '\u{2189}' | '\u{2460}'..='\u{249b}' | '\u{24ea}' => Self::Alone,
            _ => return None,
        })
    }
}

/// Appends the character with what keeps it apart from digits before it: a caret, a bar, or a blank.
fn set_apart(mut out: String, c: char) -> String {
    let follows = |out: &str, place: Place| {
        let last = out.chars().next_back();
        last.and_then(Place::of).is_some_and(|before| std::mem::discriminant(&before) == std::mem::discriminant(&place))
    };
    // After a letter it changes nothing: H₂O is H2O.
    let after_digit = out.chars().next_back().is_some_and(char::is_numeric);
    match Place::of(c) {
        Some(Place::Raised) if after_digit && !follows(&out, Place::Raised) => out.push('^'),
        Some(Place::Lowered) if after_digit && !follows(&out, Place::Lowered) => out.push('|'),
        Some(Place::Alone) if after_digit => out.push(' '),
        _ => {}
    }
    out.push(c);
    out
}

fn is_final_punctuation(c: char) -> bool {
    matches!(c, '.' | '?' | '!' | ',' | ';' | ':' | '。' | '、' | '؟' | '।' | '¿' | '¡')
}

/// Characters that show nothing: soft hyphens, joiners, direction marks, variation selectors, tags, control characters.
pub(super) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control() && !matches!(c, '\n' | '\t' | '\r' | '\u{b}' | '\u{c}');
    }
    matches!(c,
        '\u{80}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Apostrophes, dashes and digits that mean the same and that NFKC leaves apart.
fn plain(c: char) -> char {
    match c {
        _ if c.is_ascii() => c,
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{201b}' | '\u{2032}' => '\'',
        '\u{2010}' | '\u{2011}' | '\u{2012}' | '\u{2013}' | '\u{2212}' => '-',
        _ => decimal_digit(c).unwrap_or(c),
    }
}

/// First characters of the runs of ten decimal digits outside ASCII that living languages use.
const ZEROS: [u32; 24] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50,
    0x0ed0, 0x0f20, 0x1040, 0x17e0, 0x1810, 0x1946, 0x1b50, 0x1c40, 0xa8d0, 0xabf0,
];

fn decimal_digit(c: char) -> Option<char> {
    let code = u32::from(c);
    ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)).and_then(|zero| char::from_digit(code - zero, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalising_ignores_case_blanks_forms_and_final_punctuation_and_nothing_else() {
        let rows = [
            ("How do I pay?", "how do i pay", true),
            ("  How\tdo \n I pay ?! ", "how do i pay", true),
            ("ＦＵＬＬ　width", "full width", true),
            ("Stra\u{df}e", "STRASSE", true),
            ("re\u{301}sume\u{301}", "r\u{e9}sum\u{e9}", true),
            ("pass\u{200b}word", "password", true),
            ("so\u{ad}ft", "soft", true),
            ("\u{feff}start", "start", true),
            ("don\u{2019}t", "don't", true),
            ("order ٧٧٨١", "order 7781", true),
            ("order ७", "order 7", true),
            ("ﬁne", "fine", true),
            ("r\u{200b}e\u{200d}\u{301}", "r\u{e9}", true),
            ("", "?!", true),
            ("İstanbul", "istanbul", true),
            ("resume", "r\u{e9}sum\u{e9}", false),
            ("order 7781", "order 7782", false),
            ("C#", "C", false),
            ("C++", "C", false),
            ("a b", "ab", false),
            ("оrder", "order", false),
            ("?how", "how", false),
            ("5%", "5", false),
            ("what is 5²", "what is 52", false),
            ("what is 5²⁰", "what is 5^20", true),
            ("what is 5₂", "what is 52", false),
            ("H₂O", "h2o", true),
            ("what is 1②", "what is 12", false),
            ("5½ cups", "51/2 cups", false),
        ];
        for (a, b, same) in rows {
            assert_eq!(normalise(a) == normalise(b), same, "{a:?} / {b:?}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        for text in ["Ｈｅｌｌｏ  World!!", "ΣΑΣ ς", "a\u{300}\u{200b}\u{301} . ?", "½ ﷺ ﬃ"] {
            let once = normalise(text);
            assert_eq!(normalise(&once), once, "{text:?}");
        }
    }

    #[test]
    fn the_canonical_text_keeps_case_and_inner_blanks() {
        assert_eq!(canonical(" Print  X\n    y "), "Print  X\n    y");
    }
}
