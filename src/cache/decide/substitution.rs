//! One thing exchanged for another: two texts with the same frame and another word in one place.
//!
//! "How do I clean a leather jacket" and "How do I clean a down jacket" are near by any embedding, and no list can hold
//! all words that exclude each other. So a word exchanged inside an unchanged frame is taken for another question,
//! unless it is known to mean the same, is spelt alike, or carries no topic. English only; elsewhere inflection of the
//! words around betrays nothing.
//!
//! Must never object to texts of equal words, and gives the same verdict whichever text comes first.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::lexicon::{CARDINALS, MONTHS, ORDINALS, RELATIVE, SCALES, WEEKDAYS};
use super::words::stem;

/// Most words with a topic that are exchanged in one place; with more, the texts are worded differently.
const MAX_EXCHANGED: usize = 2;
/// Words without a topic by which the frames may differ: "how do I" and "how can I" are one frame.
const MAX_FRAME: usize = 2;
/// Letters at the beginning by which words are of one family, as "withdraw" and "withdrawal".
const FAMILY: usize = 5;

/// Words that qualify and single nothing out; exchanged, added or dropped, they leave the question what it was.
const QUALIFIERS: &str = "usually normally typically generally currently presently really quite rather still yet already \
    again soon exactly properly simply correctly proper correct best good great right way ways thing things";

/// Groups of stems of one meaning, by stem.
static GROUPS: LazyLock<HashMap<String, Vec<usize>>> = LazyLock::new(|| {
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    for (group, line) in include_str!("synonyms.txt").lines().enumerate() {
        for word in line.split_whitespace() {
            groups.entry(stem(word).into_owned()).or_default().push(group);
        }
    }
    groups
});

/// Stems that are left out: qualifiers, and numbers, days and months, which have guards of their own.
static LEFT_OUT: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let numbers = CARDINALS.iter().chain(ORDINALS).map(|(word, _)| *word).chain(SCALES.iter().map(|(word, _)| *word));
    let lists = [QUALIFIERS].into_iter().chain(WEEKDAYS).chain(MONTHS).chain(RELATIVE).chain(numbers);
    lists.flat_map(str::split_whitespace).map(|word| stem(word).into_owned()).collect()
});

/// A word with a topic: its stem, and the word in lower case.
#[derive(Clone, Debug)]
pub(super) struct Topic<'a> {
    pub(super) stem: &'a str,
    pub(super) word: String,
}

/// The exchanged words, if one frame holds different ones. `a` and `b` are the words with a topic, in order; `frame`
/// counts the words without one that only one text has.
pub(super) fn exchanged(a: &[Topic<'_>], b: &[Topic<'_>], frame: usize) -> Option<(String, String)> {
    let (a, b) = (kept(a), kept(b));
    let before = a.iter().zip(&b).take_while(|(x, y)| same(x, y)).count();
    let (a_rest, b_rest) = (a.get(before..)?, b.get(before..)?);
    let after = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(x, y)| same(x, y)).count();
    let (mine, theirs) = (a_rest.get(..a_rest.len() - after)?, b_rest.get(..b_rest.len() - after)?);
    let one_place = |words: &[&Topic<'_>]| (1..=MAX_EXCHANGED).contains(&words.len());
    if before + after == 0 || frame > MAX_FRAME || !one_place(mine) || !one_place(theirs) {
        return None;
    }
    // A word that only changed its place is not exchanged.
    let first = mine.iter().find(|x| !theirs.iter().any(|y| same(x, y)))?;
    let second = theirs.iter().find(|y| !mine.iter().any(|x| same(x, y)))?;
    Some((first.word.clone(), second.word.clone()))
}

fn kept<'a>(words: &'a [Topic<'a>]) -> Vec<&'a Topic<'a>> {
    words.iter().filter(|topic| !LEFT_OUT.contains(topic.stem)).collect()
}

/// Whether two words are one word spelt in two ways, of one family, or of one meaning.
pub(super) fn same(a: &Topic<'_>, b: &Topic<'_>) -> bool {
    let groups = |topic: &Topic<'_>| GROUPS.get(topic.stem).map_or(&[][..], Vec::as_slice);
    a.stem == b.stem
        || groups(a).iter().any(|group| groups(b).contains(group))
        || is_family(&a.word, &b.word)
        || is_misspelt(&a.word, &b.word)
}

fn is_family(a: &str, b: &str) -> bool {
    let shared = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    shared >= FAMILY && shared * 5 >= 3 * a.chars().count().max(b.chars().count())
}

/// Words of some length that begin alike and are one edit apart, or two in long words; two neighbours in each other's
/// place are one edit.
fn is_misspelt(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().take(32).collect());
    let shortest = a.len().min(b.len());
    shortest >= 4 && a.first() == b.first() && edits(&a, &b) <= shortest.saturating_sub(1) / 4
}

/// Optimal string alignment distance (Damerau and Levenshtein, restricted to one change of each pair).
fn edits(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows: [Vec<usize>; 3] = [vec![0; width], vec![0; width], (0..width).collect()];
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    let letter = |word: &[char], at: usize| word.get(at).copied();
    for i in 1..=a.len() {
        rows.rotate_left(1);
        let [two_up, up, row] = &mut rows;
        for j in 0..width {
            let value = if j == 0 {
                i
            } else {
                let differ = letter(a, i - 1) != letter(b, j - 1);
                let mut best = (cell(up, j - 1) + usize::from(differ)).min(cell(up, j) + 1).min(cell(row, j - 1) + 1);
                let turned =
                    i > 1 && j > 1 && letter(a, i - 1) == letter(b, j - 2) && letter(a, i - 2) == letter(b, j - 1);
                if turned {
                    best = best.min(cell(two_up, j - 2) + 1);
                }
                best
            };
            if let Some(cell) = row.get_mut(j) {
                *cell = value;
            }
        }
    }
    cell(&rows[2], b.len())
}

#[cfg(test)]
mod tests {
    use super::super::{Features, Guard, Guards};

    fn refuses(a: &str, b: &str) -> bool {
        let found = Guards::all().explain(&Features::of(a), &Features::of(b));
        found.iter().any(|f| f.guard == Guard::Substitution && f.verdict == super::super::Opinion::Reject)
    }

    #[test]
    fn another_word_in_one_frame_is_another_question() {
        for (a, b) in [
            ("How do I clean a leather jacket?", "How do I clean a down jacket?"),
            ("How do I delete a message?", "How do I delete my account?"),
            ("does the pad thai contain peanuts", "does the green curry contain peanuts"),
            ("is service included for delivery orders", "is service included for dine-in orders"),
            ("how long does it take to get a passport", "how long does it take to get a visa"),
            ("who is the founder of the company", "who is the auditor of the company"),
        ] {
            assert!(refuses(a, b) && refuses(b, a), "{a} / {b}");
        }
    }

    #[test]
    fn the_same_in_other_words_or_letters_passes() {
        for (a, b) in [
            ("When does the autumn term start?", "When does the autumn term begin?"),
            ("how do I find my nearest store", "how do I find my nearest shop"),
            ("how do I read my electricity meter", "how do I read my electricty meter"),
            ("why is the connection slow in the evenings", "why is the conection slow in the evenigns"),
            ("who wrote Wuthering Heights", "who is the author of Wuthering Heights"),
            ("how long does it take", "how long does it usually take"),
            ("daily limit for withdrawals", "daily limit for withdrawing"),
            ("drawbacks of remote work", "downsides of working from home"),
        ] {
            assert!(!refuses(a, b) && !refuses(b, a), "{a} / {b}");
        }
    }
}
