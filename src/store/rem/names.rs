//! Names as they are compared: one normal form, on every store.

use caseless::default_case_fold_str;
use unicode_normalization::UnicodeNormalization;

use super::super::Digest;

/// The normal form of a name: NFKC, case folded, trimmed, and each run of blanks, `_` and `-` one `-`. Everything else is kept,
/// so `v1.2` and `v12` are two names. A name of nothing but such characters has the empty form, which nothing is found by.
pub fn normalise(name: &str) -> String {
    // Folding may undo the normalisation and the other way round; the second round settles it (Unicode 16, section 3.13, D147).
    let once: String = default_case_fold_str(&name.nfkc().collect::<String>()).nfkc().collect();
    let folded: String = default_case_fold_str(&once).nfkc().collect();
    let mut key = String::with_capacity(folded.len());
    let mut gap = false;
    for letter in folded.chars() {
        if letter.is_whitespace() || letter == '_' || letter == '-' {
            gap = true;
            continue;
        }
        if gap && !key.is_empty() {
            key.push('-');
        }
        gap = false;
        key.push(letter);
    }
    key
}

/// The name with a blank wherever a small letter or a digit is followed by a capital, as in `projectPlan`; `None` if there is no
/// such place. A last resort of look-ups.
pub fn split_camel_case(name: &str) -> Option<String> {
    let mut split = String::with_capacity(name.len() + 4);
    let mut before: Option<char> = None;
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_some_and(|before| before.is_lowercase() || before.is_numeric()) {
            split.push(' ');
        }
        split.push(letter);
        before = Some(letter);
    }
    (split.len() > name.len()).then_some(split)
}

/// What a normal form is found by in an index: names may be longer than a B-tree takes.
pub fn key_digest(key: &str) -> Digest {
    *blake3::hash(key.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_name_are_one_and_other_names_stay_apart() {
        for name in ["Sarah Chen", "sarah-chen", "SARAH  CHEN", "sarah_chen", " Sarah\tChen ", "ｓarah-_ chen"] {
            assert_eq!(normalise(name), "sarah-chen", "{name}");
        }
        assert_ne!(normalise("v1.2"), normalise("v12"));
        assert_eq!(normalise("東京 タワー"), "東京-タワー");
        assert_eq!(normalise("Straße"), normalise("STRASSE"));
        assert_eq!(normalise(" - _ "), "");
        assert_eq!(split_camel_case("projectPlan").as_deref(), Some("project Plan"));
        assert_eq!(split_camel_case("Project"), None);
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(name in "\\PC{0,40}") {
            let key = normalise(&name);
            prop_assert_eq!(normalise(&key), key);
        }
    }
}
