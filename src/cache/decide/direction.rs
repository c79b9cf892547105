//! Who does what to whom: "from X to Y" against "from Y to X".
//!
//! Around each connective the words on its two sides become directed links. Two texts disagree when one has a link that
//! the other has only the other way round.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::lexicon::CONNECTIVES;
use super::words::Token;

static CONNECTIVE: LazyLock<HashSet<&'static str>> = LazyLock::new(|| CONNECTIVES.split_whitespace().collect());

/// Signs that point from the left to the right.
const ARROWS: [&str; 8] = ["->", "→", "=>", "⇒", "/", "-", "<", ">"];
/// Words looked at on each side of a connective.
const SIDE: usize = 3;
/// Words without topic ("the", "my") skipped between a connective and its side.
const SKIPPED: usize = 2;
/// Stands for "anywhere" in a link: `from X` alone is X → anywhere, `to X` alone is anywhere → X.
pub(super) const ANYWHERE: u16 = u16::MAX;

/// From one word of the text to another, by index.
pub(super) type Link = (u16, u16);

/// The directed links of a text, in order of occurrence.
pub(super) fn links(text: &str, tokens: &[Token]) -> Vec<Link> {
    let mut links = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let gap = index.checked_sub(1).and_then(|b| tokens.get(b)).and_then(|b| text.get(b.at.end..token.at.start));
        if gap.is_some_and(|gap| ARROWS.contains(&gap.trim())) && joins_terms(tokens, index) {
            connect(&mut links, &side(text, tokens, index, false), &side(text, tokens, index - 1, true));
        }
        match token.folded.as_str() {
            "from" => {
                let right = side(text, tokens, index, true);
                links.extend(right.iter().map(|source| (*source, ANYWHERE)));
                connect(&mut links, &right, &side(text, tokens, index, false));
            }
            word if CONNECTIVE.contains(word) => {
                let right = side(text, tokens, index, true);
                if matches!(word, "to" | "into" | "onto") {
                    links.extend(right.iter().map(|target| (ANYWHERE, *target)));
                }
                connect(&mut links, &side(text, tokens, index, false), &right);
            }
            _ => {}
        }
    }
    links
}

/// "-" and "/" join terms only between numbers or codes; in prose they make compounds and alternatives.
fn joins_terms(tokens: &[Token], index: usize) -> bool {
    let is_term = |t: Option<&Token>| {
        t.is_some_and(|t| !t.stop && (t.folded.len() <= 4 || t.folded.bytes().any(|b| b.is_ascii_digit())))
    };
    is_term(tokens.get(index)) && is_term(index.checked_sub(1).and_then(|i| tokens.get(i)))
}

fn connect(links: &mut Vec<Link>, from: &[u16], to: &[u16]) {
    links.extend(from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))));
}

/// Up to [`SIDE`] words with a topic, next to the word at `index`, on its right or left, within the same clause.
fn side(text: &str, tokens: &[Token], index: usize, right: bool) -> Vec<u16> {
    let mut found = Vec::new();
    let mut skipped = 0;
    let mut at = index;
    while found.len() < SIDE {
        let next = if right { at + 1 } else { at.wrapping_sub(1) };
        let Some(token) = tokens.get(next) else { break };
        let (first, second) = if right { (at, next) } else { (next, at) };
        let gap =
            tokens.get(first).zip(tokens.get(second)).and_then(|(a, b)| text.get(a.at.end..b.at.start)).unwrap_or("");
        if at != index && gap.contains(['.', '?', '!', ';', ',', '\n', '→', '>', '<']) {
            break;
        }
        if token.stop || CONNECTIVE.contains(token.folded.as_str()) {
            if !found.is_empty() || skipped == SKIPPED {
                break;
            }
            skipped += 1;
        } else {
            found.extend(u16::try_from(next));
        }
        at = next;
    }
    found
}
