//! Trigrams of one owner's names in memory: which names have each of them.
//!
//! As with vectors, it may have too much and never too little: what was deleted stays until it is made anew, and every name that is
//! taken from here is looked up before it is believed. The table of trigrams in the database finds the same without it, but has to
//! count tens of thousands of postings for a threshold as low as the usual one; here counting one takes a nanosecond.

use std::collections::HashMap;

use super::super::super::rem::Grams;
use super::shelf::Weighed;

/// Bytes that a name takes on the average, for what is not there yet.
const EACH: usize = 256;

/// The names of one owner.
#[derive(Default)]
pub(in crate::store::sqlite) struct Lexicon {
    numbers: Vec<i64>,
    /// How many trigrams each has.
    sizes: Vec<u32>,
    /// Places in `numbers` of the names that have a trigram.
    postings: HashMap<u64, Vec<u32>>,
    posted: usize,
    /// Number of the last name that was read.
    pub(super) seen: i64,
    /// Names that came, and searches that were made, since it was compared with the database.
    pub(super) unchecked: usize,
}

impl Lexicon {
    /// Adds a name if it has not been seen yet.
    pub(super) fn add(&mut self, number: i64, grams: &Grams) {
        if number <= self.seen {
            return;
        }
        self.seen = number;
        let (Ok(place), Ok(size)) = (u32::try_from(self.numbers.len()), u32::try_from(grams.len())) else { return };
        self.unchecked += 1;
        // One without trigrams is counted too, so that the number of names can be compared.
        self.numbers.push(number);
        self.sizes.push(size);
        for code in grams.codes() {
            self.postings.entry(*code).or_default().push(place);
        }
        self.posted += grams.len();
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Names that share a trigram and are so similar, in any order: similarity and number. The similarity is that of
    /// [`Grams::similarity`], to the last digit.
    pub(super) fn similar(&self, grams: &Grams, least: f64) -> Vec<(f64, i64)> {
        let mut shared = vec![0_u32; self.numbers.len()];
        let mut touched = Vec::new();
        for places in grams.codes().iter().filter_map(|code| self.postings.get(code)) {
            for place in places.iter().filter_map(|place| usize::try_from(*place).ok()) {
                let Some(count) = shared.get_mut(place) else { continue };
                if *count == 0 {
                    touched.push(place);
                }
                *count += 1;
            }
        }
        let asked = u32::try_from(grams.len()).unwrap_or(u32::MAX);
        let score = |place: usize| {
            let (common, size) = (*shared.get(place)?, *self.sizes.get(place)?);
            let score = f64::from(common) / f64::from(size.saturating_add(asked).saturating_sub(common));
            (score >= least).then_some((score, *self.numbers.get(place)?))
        };
        touched.into_iter().filter_map(score).collect()
    }

    /// Memory that so many names take, bytes.
    pub(super) fn expected(names: usize) -> usize {
        names.saturating_mul(EACH)
    }
}

impl Weighed for Lexicon {
    fn bytes(&self) -> usize {
        // Lists of postings have room for up to twice what is in them.
        self.numbers.capacity() * 8 + self.sizes.capacity() * 4 + self.posted * 8 + self.postings.capacity() * 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_are_those_of_the_texts() {
        let names = ["Sarah Chen", "sara chan", "chen", "!!!", "sarah chen sarah", "other"];
        let mut lexicon = Lexicon::default();
        for (name, number) in names.iter().zip(1..) {
            lexicon.add(number, &Grams::of(name));
            lexicon.add(number, &Grams::of("seen already"));
        }
        assert_eq!((lexicon.len(), lexicon.seen), (6, 6));
        let asked = Grams::of("sara chen");
        for least in [0.0, 0.3, 0.75, 1.0] {
            let mut found = lexicon.similar(&asked, least);
            found.sort_by_key(|(_, number)| *number);
            let scored = names.iter().zip(1..).map(|(name, number)| (asked.similarity(&Grams::of(name)), number));
            let expected: Vec<(f64, i64)> = scored.filter(|(score, _)| *score > 0.0 && *score >= least).collect();
            assert_eq!(found, expected, "{least}");
        }
        assert!(lexicon.bytes() > 0 && Lexicon::expected(2) > Lexicon::expected(1));
    }
}
