//! Passages that mean exactly what they spell: code, quotations, addresses, paths, options, and words that mix scripts.
//!
//! A literal of one text must occur in the other, character for character. So prompts that the normalised form makes
//! equal still part here when their code or a quotation differs in case or blanks.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use super::language::Script;
use super::words::Token;

/// How many runs of backticks are looked at for one that closes a span; keeps hostile text linear.
const CLOSING_RUNS: usize = 32;

/// Opening and closing signs of quotations that differ from each other.
const QUOTES: [(char, char); 6] = [('“', '”'), ('«', '»'), ('„', '“'), ('「', '」'), ('『', '』'), ('"', '"')];

/// The literals of a canonical text, as ranges of bytes.
pub(super) fn literals(text: &str, tokens: &[Token], dominant: Option<Script>) -> Vec<Range<usize>> {
    let mut found = code_spans(text);
    quotations(text, &mut found);
    found.sort_unstable_by_key(|span| span.start);
    let mut passages = found.clone().into_iter().peekable();
    for chunk in chunks(text) {
        while passages.next_if(|span| span.end <= chunk.start).is_some() {}
        // What stands within a passage is compared with it.
        if passages.peek().is_none_or(|span| chunk.start < span.start) {
            found.extend(technical(text, chunk));
        }
    }
    found.extend(
        tokens.iter().filter(|t| is_disguised(text.get(t.at.clone()).unwrap_or(""), dominant)).map(|t| t.at.clone()),
    );
    found.retain(|span| !span.is_empty());
    found
}

/// The first literal of `mine` that the other text lacks.
pub(super) fn missing<'a>(text: &'a str, mine: &[(u16, u16)], other: &str) -> Option<&'a str> {
    mine.iter()
        .filter_map(|(start, end)| text.get(usize::from(*start)..usize::from(*end)))
        .find(|l| !other.contains(*l))
}

/// A digest of the indentation of a text that looks like code, zero for any other text. Blanks at the start of a line
/// are part of some languages.
pub(super) fn layout(text: &str) -> u64 {
    let code_line = |line: &str| line.trim_end().ends_with(['{', '}', ';', ':']);
    let indented = |line: &str| line.starts_with(['\t']) || line.starts_with("  ");
    if !text.contains('\n') || !text.lines().any(indented) || !text.lines().any(code_line) {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        line.get(..line.len() - line.trim_start().len()).hash(&mut hasher);
    }
    hasher.finish() | 1
}

/// What stands between backticks.
fn code_spans(text: &str) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices('`') {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    let mut spans = Vec::new();
    let mut index = 0;
    while let Some(open) = runs.get(index) {
        let rest = runs.get(index + 1..).unwrap_or(&[]);
        let closing = rest.iter().take(CLOSING_RUNS).position(|close| close.len() == open.len());
        if let Some((skipped, close)) = closing.and_then(|skipped| Some((skipped, rest.get(skipped)?))) {
            spans.push(trimmed(text, open.end..close.start));
            index += skipped + 2;
        } else {
            index += 1;
        }
    }
    spans
}

/// What stands between quotation marks. An apostrophe opens a quotation only before a word and after a blank.
fn quotations(text: &str, found: &mut Vec<Range<usize>>) {
    for (open, close) in QUOTES.into_iter().chain([('\'', '\'')]) {
        let mut from = 0;
        while let Some(start) = text.get(from..).and_then(|rest| rest.find(open)).map(|at| from + at) {
            let inner = start + open.len_utf8();
            from = inner;
            if open == close && !opens(text, start, inner) {
                continue;
            }
            let rest = text.get(inner..).unwrap_or("");
            let Some(end) =
                rest.match_indices(close).map(|(at, _)| inner + at).find(|end| closes(text, *end, open == close))
            else {
                break;
            };
            // An apostrophe that finds its partner only on another line was none.
            if open != '\'' || !text.get(inner..end).unwrap_or("").contains('\n') {
                found.push(trimmed(text, inner..end));
                from = end + close.len_utf8();
            }
        }
    }
}

fn opens(text: &str, start: usize, inner: usize) -> bool {
    let before = text.get(..start).and_then(|t| t.chars().next_back());
    let after = text.get(inner..).and_then(|t| t.chars().next());
    before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '[' | '{' | '=' | ':' | ',' | '-'))
        && after.is_some_and(|c| !c.is_whitespace())
}

fn closes(text: &str, end: usize, ambiguous: bool) -> bool {
    let after = text.get(end..).and_then(|t| t.chars().nth(1));
    !ambiguous || after.is_none_or(|c| !c.is_alphanumeric())
}

/// The range without blanks and sentence punctuation at its ends.
fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let inner = text.get(span.clone()).unwrap_or("");
    let start = span.start + (inner.len() - inner.trim_start().len());
    let kept = inner.trim().trim_end_matches(['.', ',', '?', '!', ';']);
    start..start + kept.len()
}

/// Ranges between blanks.
fn chunks(text: &str) -> impl Iterator<Item = Range<usize>> {
    let base = text.as_ptr() as usize;
    text.split_whitespace().map(move |chunk| {
        let start = chunk.as_ptr() as usize - base;
        start..start + chunk.len()
    })
}

/// The part of the chunk that is an address, a path, an option or a piece of code, if it is one.
fn technical(text: &str, chunk: Range<usize>) -> Option<Range<usize>> {
    let whole = text.get(chunk.clone())?;
    let outer = |c: char| {
        matches!(
            c,
            '"' | '\''
                | '.'
                | ','
                | ';'
                | ':'
                | '!'
                | '?'
                | '('
                | ')'
                | '['
                | ']'
                | '<'
                | '>'
                | '`'
                | '*'
                | '“'
                | '”'
                | '«'
                | '»'
        )
    };
    let leading = whole.len() - whole.trim_start_matches(|c| outer(c) && c != '.').len();
    let call = whole.contains("()");
    let inner = whole.get(leading..)?;
    let inner = if call { inner.trim_end_matches(['.', ',', '?', '!', ';']) } else { inner.trim_end_matches(outer) };
    let named = inner.chars().any(char::is_alphabetic);
    (named && (call || is_address(inner) || is_code(inner))).then(|| {
        let start = chunk.start + leading;
        start..start + inner.len()
    })
}

fn is_address(chunk: &str) -> bool {
    let email = chunk.split_once('@').is_some_and(|(_, host)| host.starts_with(char::is_alphanumeric));
    let rooted = ["/", "./", "../", "~/", "www."].iter().any(|start| chunk.starts_with(start));
    email || rooted || chunk.contains("://") || chunk.contains('\\') || chunk.matches('/').count() > 1
}

fn is_code(chunk: &str) -> bool {
    let letter_after = |sign: &str| chunk.strip_prefix(sign).is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let option = letter_after("--") || (letter_after("-") && chunk.chars().count() == 2);
    let inside = |c: char| chunk.trim_matches(c).contains(c);
    option
        || letter_after("$")
        || letter_after("#")
        || chunk.contains("::")
        || ['_', '=', '{', '[', '('].into_iter().any(inside) && !is_plural(chunk)
}

/// "account(s)" is prose.
fn is_plural(chunk: &str) -> bool {
    chunk.ends_with("(s") || chunk.ends_with("(s)") || chunk.ends_with("(es")
}

/// A word that mixes alphabets, or one of another alphabet in a Latin text: it may look like a word it is not.
fn is_disguised(word: &str, dominant: Option<Script>) -> bool {
    if word.is_ascii() {
        return false;
    }
    let family = |s: Script| if matches!(s, Script::Kana | Script::Han | Script::Hangul) { Script::Han } else { s };
    let mut scripts = word.chars().filter_map(Script::of).map(family);
    let Some(first) = scripts.next() else { return false };
    scripts.any(|script| script != first) || (dominant == Some(Script::Latin) && first != Script::Latin)
}
