//! Who does what to whom: "from X to Y" against "from Y to X".
//!
//! Around each connective the words on its two sides become directed links. Two texts disagree when one has a link that
//! the other has only the other way round.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lexicon::CONNECTIVES;
use super::words::{Token, spellings};

static CONNECTIVE: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| spellings(&CONNECTIVES));

/// The kind of "from" and "to", and of signs that point.
const TRANSFER: u8 = 0;
/// Signs that point from the left to the right.
const ARROWS: [&str; 8] = ["->", "→", "=>", "⇒", "/", "-", "<", ">"];
/// Words looked at on each side of a connective: names of two words must meet wherever they are cut.
const SIDE: usize = 2;
/// Words without topic ("the", "my") skipped between a connective and its side.
const SKIPPED: usize = 2;
/// Words after which a place or thing follows, not a verb.
const DETERMINERS: [&str; 9] = ["the", "a", "an", "my", "your", "our", "his", "her", "their"];
/// Stands for "anywhere" in a link: `from X` alone is X → anywhere, `to X` alone is anywhere → X.
pub(super) const ANYWHERE: u16 = u16::MAX;

/// From one word of the text to another, by index, through a kind of connective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) kind: u8,
    pub(super) from: u16,
    pub(super) to: u16,
}

/// The directed links of a text, in order of occurrence.
pub(super) fn links(text: &str, tokens: &[Token]) -> Vec<Link> {
    let mut links = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if points(text, tokens, index) {
            let right = side(text, tokens, index - 1, true);
            connect(&mut links, TRANSFER, &side(text, tokens, index, false), &right);
        }
        let Some(kind) = CONNECTIVE.get(token.folded.as_str()) else { continue };
        let right = side(text, tokens, index, true);
        let left = side(text, tokens, index, false);
        match token.folded.as_str() {
            "from" => {
                links.extend(object(tokens, index).map(|source| Link { kind: TRANSFER, from: source, to: ANYWHERE }));
                connect(&mut links, *kind, &right, &left);
            }
            "to" | "into" | "onto" => {
                links.extend(object(tokens, index).map(|target| Link { kind: TRANSFER, from: ANYWHERE, to: target }));
                connect(&mut links, *kind, &left, &right);
            }
            _ => connect(&mut links, *kind, &left, &right),
        }
    }
    links
}

/// Whether a sign that points stands before the word. "-" and "/" point only between numbers or codes; in prose they
/// make compounds and alternatives.
fn points(text: &str, tokens: &[Token], index: usize) -> bool {
    let Some((before, token)) = index.checked_sub(1).and_then(|b| tokens.get(b)).zip(tokens.get(index)) else {
        return false;
    };
    let sign = text.get(before.at.end..token.at.start).unwrap_or("").trim();
    let is_term = |t: &Token| !t.stop && (t.folded.len() <= 4 || t.folded.bytes().any(|b| b.is_ascii_digit()));
    ARROWS.contains(&sign) && (sign.len() > 1 || is_term(before) && is_term(token))
}

/// The first word with a topic after a preposition, if only determiners stand between ("to the bank", not "to go").
fn object(tokens: &[Token], index: usize) -> Option<u16> {
    let after = tokens.iter().enumerate().skip(index + 1).take(SKIPPED + 1);
    let mut rest = after.skip_while(|(_, token)| DETERMINERS.contains(&token.folded.as_str()));
    rest.next().filter(|(_, token)| !token.stop).and_then(|(at, _)| u16::try_from(at).ok())
}

fn connect(links: &mut Vec<Link>, kind: u8, from: &[u16], to: &[u16]) {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    links.extend(pairs.map(|(from, to)| Link { kind, from, to }));
}

/// Up to [`SIDE`] words with a topic, next to the word at `index`, on its right or left, within the same clause.
fn side(text: &str, tokens: &[Token], index: usize, right: bool) -> Vec<u16> {
    let mut found = Vec::new();
    let mut skipped = 0;
    let mut at = index;
    while found.len() < SIDE {
        let next = if right { at + 1 } else { at.wrapping_sub(1) };
        let Some(token) = tokens.get(next) else { break };
        let between = tokens.get(at.min(next)).zip(tokens.get(at.max(next)));
        let gap = between.and_then(|(a, b)| text.get(a.at.end..b.at.start)).unwrap_or("");
        if at != index && gap.contains(['.', '?', '!', ';', ',', '\n', '→', '>', '<']) {
            break;
        }
        if token.stop || CONNECTIVE.contains_key(token.folded.as_str()) {
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
