//! Trigram similarity, as PostgreSQL's `pg_trgm` counts it: lower case, alphanumeric words, each with two blanks before and one
//! behind, the set of all runs of three characters; similarity is the number of common ones over that of all.
//!
//! Source: the manual of `pg_trgm`, section F.35 of PostgreSQL 18. The score always comes from here, whatever index found the
//! candidates, so that every store gives the same number.

/// The set of trigrams of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grams(Vec<u64>);

impl Grams {
    /// Of this text.
    pub fn of(text: &str) -> Self {
        let mut grams = Vec::with_capacity(text.len() + 2);
        for word in words(text) {
            let mut window = [' ', ' ', ' '];
            for letter in word.chars().chain([' ']) {
                window = [window[1], window[2], letter];
                grams.push(packed(window));
            }
        }
        grams.sort_unstable();
        grams.dedup();
        Self(grams)
    }

    /// The trigrams, sorted: three code points of 21 bits each.
    pub fn codes(&self) -> &[u64] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text has no letter and no digit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Similarity to another text, 0 to 1; 0 if one has no trigram.
    pub fn similarity(&self, other: &Self) -> f64 {
        let (mut common, mut mine, mut theirs) = (0_u32, self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            match a.cmp(b) {
                std::cmp::Ordering::Less => drop(mine.next()),
                std::cmp::Ordering::Greater => drop(theirs.next()),
                std::cmp::Ordering::Equal => {
                    common += 1;
                    mine.next();
                    theirs.next();
                }
            }
        }
        let all = self.len() + other.len();
        let all = u32::try_from(all).unwrap_or(u32::MAX).saturating_sub(common);
        if all == 0 { 0.0 } else { f64::from(common) / f64::from(all) }
    }
}

/// The words of a text as trigrams are made of: runs of letters and digits in lower case.
pub fn words(text: &str) -> Vec<String> {
    let split = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    split.map(str::to_lowercase).collect()
}

fn packed(window: [char; 3]) -> u64 {
    window.into_iter().fold(0, |packed, letter| (packed << 21) | u64::from(u32::from(letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn similarity(a: &str, b: &str) -> String {
        format!("{:.3}", Grams::of(a).similarity(&Grams::of(b)))
    }

    #[test]
    fn the_scores_are_those_of_pg_trgm() {
        assert_eq!(similarity("sara chen", "Sarah Chen"), "0.750");
        assert_eq!(similarity("projct-plan", "project-plan"), "0.643");
        assert_eq!(similarity("word", "two words"), "0.364", "the example of the manual");
        assert_eq!(similarity("", "x"), "0.000");
        assert_eq!(similarity("a b", "B a!"), "1.000");
        assert_eq!(Grams::of("cat").len(), 4, "the example of the manual: \"  c\", \" ca\", \"cat\", \"at \"");
    }
}
