//! Words for full-text search: the same on every store, which index what comes from here and do not read texts by themselves.

use std::collections::BTreeMap;

use unicode_segmentation::UnicodeSegmentation;

/// Longest word that is indexed, bytes; the rest of a longer one is cut.
const LONGEST: usize = 64;

/// The words of a text in order: Unicode words (UAX 29) in lower case, letters and digits only, so that one of them is always
/// one token of an index.
pub fn tokens(text: &str) -> Vec<String> {
    let words = text.unicode_words().flat_map(|word| word.split(|letter: char| !letter.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(|word| cut(word.to_lowercase())).collect()
}

fn cut(mut word: String) -> String {
    if word.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| word.is_char_boundary(*end)).unwrap_or(0);
        word.truncate(end);
    }
    // Lower case of a few letters has marks that are neither letter nor digit.
    word.retain(char::is_alphanumeric);
    word
}

/// How well a text answers a search for words: how many of them it has, and of texts with equally many the one that says them
/// more often in fewer words. The weights are those of BM25 (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75, with 200 words as the
/// usual length) without the rarity of words, which differs between stores and callers and would tell one of the other's texts.
pub fn relevance(query: &[String], text: &[String]) -> f64 {
    let mut counts: BTreeMap<&str, u32> = query.iter().map(|word| (word.as_str(), 0)).collect();
    for word in text {
        if let Some(count) = counts.get_mut(word.as_str()) {
            *count += 1;
        }
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX)) / 200.0;
    let weight = |count: &u32| {
        let count = f64::from(*count);
        if count > 0.0 { 1.0 + count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length)) / 2.2 } else { 0.0 }
    };
    counts.values().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_single_tokens_and_more_of_them_count_first() {
        assert_eq!(
            tokens("Who owns the semantic-cache? O'Brien, v1.2 東京"),
            ["who", "owns", "the", "semantic", "cache", "o", "brien", "v1", "2", "東", "京"]
        );
        assert_eq!(tokens(&"x".repeat(100))[0].len(), LONGEST);
        let query = tokens("semantic cache");
        let one = relevance(&query, &tokens("cache cache cache cache"));
        let both = relevance(&query, &tokens("a semantic thing, and much later, a cache"));
        assert!(both > one && one > 1.0 && relevance(&query, &tokens("nothing")) == 0.0, "{both} {one}");
    }
}
