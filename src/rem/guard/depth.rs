//! How deep the tree of a statement can become, told from its words and signs before there is a tree.
//!
//! The parser bounds what it enters by recursion, but it builds chains in loops: a thousand sums in a row are a tree a thousand
//! levels deep. Whatever then walks that tree (the place of a node, printing, dropping) enters itself as often, and a stack that
//! overflows ends the whole process. So there are two bounds: no tree is made of words that could nest more deeply than
//! [`DEEP`]; and all that is done with a tree is done on a stack that would hold one of the longest statement, of nothing but
//! operators.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::super::{Code, Fault};

/// Most words and signs of which each could make the tree one level deeper, on the way to any of its leaves.
pub(super) const DEEP: usize = 500;

/// Bytes of the stack on which trees are handled. It is reserved only; pages come as they are touched.
const STACK: usize = 128 << 20;

/// Where the statement may become too deep, if it may.
pub(super) fn too_deep(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    // What is open around this place, and how much stood in it before the parenthesis.
    let mut open = Vec::new();
    let (mut around, mut here, mut compound) = (0_usize, 0_usize, 0_usize);
    for token in tokens {
        match &token.token {
            Token::LParen => {
                open.push(here);
                around += here + 1;
                here = 0;
            }
            Token::RParen => {
                let before = open.pop().unwrap_or(0);
                around = around.saturating_sub(before + 1);
                // A call of what was called nests as well.
                here = before + 1;
            }
            // What stands on both sides are leaves of one list.
            Token::Comma | Token::SemiColon => here = 0,
            Token::Word(word) if word.keyword != Keyword::NoKeyword => {
                here += 1;
                // These nest across commas: of `SELECT a, b UNION SELECT c, d` both lists are below the word.
                let joins =
                    matches!(word.keyword, Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS);
                compound += usize::from(joins);
            }
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::EOF => {}
            _ => here += 1,
        }
        if around + here + compound > DEEP {
            return Some(token);
        }
    }
    None
}

/// Does the work where a deep tree harms nobody.
pub(super) fn on_a_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    let unavailable = || {
        tracing::warn!("rem: no thread for the check of a statement");
        Fault::new(Code::Unavailable, "the statement cannot be checked at this moment").hint("try again in a moment")
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("rem-check".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|_| unavailable())?;
        thread.join().unwrap_or_else(|_| Err(unavailable()))
    })
}
