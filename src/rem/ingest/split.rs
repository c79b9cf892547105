//! Cuts a long document into parts: each small enough to be embedded as one thing, none cut in the middle of a thought if that can
//! be helped.
//!
//! Blocks of Markdown, or paragraphs of text, are put together until a part is full. A block that does not fit into any part is cut
//! at lines, sentences, words and at last between letters. Every character that is not blank is in exactly one part, in order.
//!
//! Notes are about something else every few lines, and one vector of all of it would say a little of everything. So text with a
//! heading for every thousand characters or fewer becomes smaller parts than prose: about as much as the built-in model was trained
//! to take in at once, which are 128 word pieces.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use unicode_segmentation::UnicodeSegmentation;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With headings, lists, tables and code.
    Markdown,
    /// Paragraphs with blank lines between them.
    Text,
}

/// One part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The heading that it is under, without marks; empty if there is none.
    pub title: String,
    /// The text as it stands in the document, without blank lines around it.
    pub text: String,
    /// Its number, from 0.
    pub ordinal: u32,
}

/// How large parts are, in characters.
#[derive(Clone, Copy)]
struct Sizes {
    /// From this size on a part may end, if a heading follows.
    least: usize,
    /// A part that has enough ends before this size.
    usual: usize,
}

const PROSE: Sizes = Sizes { least: 1_000, usual: 1_800 };
const NOTES: Sizes = Sizes { least: 200, usual: 500 };
/// Text is notes if it has no more characters for each of its headings, and two headings at least.
const DENSE: usize = 1_000;
/// No part has more characters.
pub const MOST: usize = 2_000;
/// Most characters of a heading in the name of a part.
const HEADING: usize = 200;
/// Most characters of a line of text that is a heading, and of one that is one for its capitals alone.
const LINE: usize = 100;
const CAPITALS: usize = 60;

/// A piece of the document that belongs together.
struct Block {
    range: Range<usize>,
    /// It begins here, if it is one.
    heading: Option<String>,
    /// Code, or a table: cut at lines only, and only if it has to be.
    whole: bool,
}

/// The parts of a document in order; none if it is blank.
pub fn split_document(text: &str, kind: Kind) -> Vec<Part> {
    let (blocks, sizes) = match kind {
        Kind::Markdown => (markdown(text), PROSE),
        Kind::Text => {
            let blocks = paragraphs(text);
            let headings = blocks.iter().filter(|block| block.heading.is_some()).count();
            let notes = headings >= 2 && text.chars().count() <= headings.saturating_mul(DENSE);
            (blocks, if notes { NOTES } else { PROSE })
        }
    };
    let (title, under) = (String::new(), String::new());
    let mut parts = Parts { text, sizes, parts: Vec::new(), title, under, open: 0..0, size: 0 };
    for block in blocks {
        if let Some(heading) = block.heading {
            if parts.size >= sizes.least {
                parts.close();
            }
            parts.under = heading;
        }
        parts.add(block.range, if block.whole { &[Cut::Lines, Cut::Letters] } else { &Cut::ALL });
    }
    parts.close();
    parts.parts
}

/// The first heading of a Markdown document, to name it by.
pub fn title_of(text: &str) -> Option<String> {
    markdown(text).into_iter().find_map(|block| block.heading).filter(|heading| !heading.is_empty())
}

/// Where a piece that is too long is cut.
#[derive(Clone, Copy)]
enum Cut {
    Lines,
    Sentences,
    Words,
    Letters,
    /// Letters may have marks without end.
    Characters,
}

impl Cut {
    const ALL: [Self; 4] = [Self::Lines, Self::Sentences, Self::Words, Self::Letters];

    fn pieces(self, text: &str) -> Vec<&str> {
        match self {
            Self::Lines => text.split_inclusive('\n').collect(),
            Self::Sentences => text.split_sentence_bounds().collect(),
            Self::Words => text.split_word_bounds().collect(),
            Self::Letters => text.graphemes(true).collect(),
            Self::Characters => text.char_indices().filter_map(|(at, c)| text.get(at..at + c.len_utf8())).collect(),
        }
    }
}

struct Parts<'a> {
    text: &'a str,
    sizes: Sizes,
    parts: Vec<Part>,
    /// Heading of the part that is open.
    title: String,
    /// The last heading.
    under: String,
    open: Range<usize>,
    /// Characters of the part that is open.
    size: usize,
}

impl Parts<'_> {
    fn add(&mut self, range: Range<usize>, cuts: &[Cut]) {
        let piece = self.text.get(range.clone()).unwrap_or_default();
        let size = piece.trim_end().chars().count();
        if size == 0 {
            // Blank ends count for nothing, but blanks inside of a part do.
            let blanks = piece.chars().count();
            if self.size > 0 && self.size + blanks <= MOST {
                self.open.end = range.end;
                self.size += blanks;
            } else {
                self.close();
            }
            return;
        }
        let Sizes { least, usual } = self.sizes;
        let fits = |open: usize| open + size <= usual || (open < least && open + size <= MOST);
        // What is no paragraph and no line of one any more is not cut only to fill a part.
        if !fits(self.size) && (self.size >= least || (size <= MOST && cuts.len() <= 2)) {
            self.close();
        }
        if fits(self.size) {
            if self.size == 0 {
                self.open.start = range.start;
                self.title.clone_from(&self.under);
            }
            self.open.end = range.end;
            self.size += piece.chars().count();
            return;
        }
        let (cut, rest) = cuts.split_first().map_or((Cut::Characters, cuts), |(cut, rest)| (*cut, rest));
        let mut start = range.start;
        for piece in cut.pieces(piece) {
            let end = start + piece.len();
            self.add(start..end, rest);
            start = end;
        }
    }

    fn close(&mut self) {
        let text = self.text.get(self.open.clone()).unwrap_or_default();
        // Blanks before the first word may be the mark of code; blank lines are not.
        let text = text.trim_end();
        let blank = text.len() - text.trim_start().len();
        let lines = text.get(..blank).and_then(|blanks| blanks.rfind('\n')).map_or(0, |at| at + 1);
        let text = text.get(lines..).unwrap_or_default();
        if !text.is_empty() {
            let ordinal = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
            self.parts.push(Part { title: self.title.clone(), text: text.to_owned(), ordinal });
        }
        self.open = self.open.end..self.open.end;
        self.size = 0;
    }
}

/// Blocks of Markdown, each from its beginning to that of the next: so definitions of links, which are no blocks, are in one too.
fn markdown(text: &str) -> Vec<Block> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS;
    let mut blocks: Vec<Block> = Vec::new();
    let (mut depth, mut heading) = (0_usize, None::<String>);
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        if depth == 0 {
            let start = if blocks.is_empty() { 0 } else { line_start(text, range.start) };
            if let Some(last) = blocks.last_mut() {
                last.range.end = start.max(last.range.start);
            }
            let whole = matches!(event, Event::Start(Tag::CodeBlock(_) | Tag::Table(_)));
            blocks.push(Block { range: start..text.len(), heading: None, whole });
        }
        match event {
            Event::Start(tag) => {
                depth += 1;
                if depth == 1 && matches!(tag, Tag::Heading { .. }) {
                    heading = Some(String::new());
                }
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                if let (TagEnd::Heading(_), Some(title), Some(last)) = (end, heading.take(), blocks.last_mut()) {
                    last.heading = Some(shortened(&title));
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut heading {
                    heading.push(' ');
                }
            }
            _ => {}
        }
    }
    if blocks.is_empty() {
        blocks.push(Block { range: 0..text.len(), heading: None, whole: false });
    }
    blocks
}

/// The blanks before a block belong to it, as those of indented code do.
fn line_start(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    let trimmed = before.trim_end_matches([' ', '\t']);
    if trimmed.is_empty() || trimmed.ends_with('\n') { trimmed.len() } else { at }
}

/// Paragraphs with the blank lines behind them. A heading is the first line of one.
fn paragraphs(text: &str) -> Vec<Block> {
    let block = |range: Range<usize>| {
        let heading = text.get(range.clone()).and_then(heading_of);
        Block { range, heading, whole: false }
    };
    let (mut blocks, mut start, mut at, mut blank) = (Vec::new(), 0, 0, false);
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if blank && !is_blank && at > start {
            blocks.push(block(start..at));
            start = at;
        }
        blank = is_blank;
        at += line.len();
    }
    blocks.push(block(start..text.len()));
    blocks
}

/// The heading that a paragraph of text begins with: a line with a line of `-` or `=` under it, one between such signs as in
/// `=== Agenda ===`, or a short one in capitals. A sentence is none: a line under it may be there to part it from what follows.
fn heading_of(paragraph: &str) -> Option<String> {
    let mut lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, second) = (lines.next()?, lines.next());
    if first.chars().count() > LINE || first.ends_with(['.', ',', ';', '!', '?']) {
        return None;
    }
    let between = [("==", '='), ("--", '-')].into_iter().find_map(|(marks, sign)| {
        let marked = first.starts_with(marks) && first.ends_with(marks);
        marked.then(|| first.trim_matches(sign).trim())
    });
    let rule = |line: &str| line.len() >= 3 && ['=', '-'].into_iter().any(|sign| line.trim_matches(sign).is_empty());
    let capitals = |line: &str| {
        let few = line.chars().count() <= CAPITALS && !line.chars().any(char::is_lowercase);
        few && line.chars().filter(|letter| letter.is_uppercase()).count() >= 4
    };
    let above = second.is_some_and(rule) || (capitals(first) && !second.is_some_and(capitals));
    let title = between.or(above.then_some(first))?.trim_end_matches(':');
    title.chars().any(char::is_alphanumeric).then(|| shortened(title))
}

fn shortened(heading: &str) -> String {
    let words: Vec<&str> = heading.split_whitespace().collect();
    words.join(" ").chars().take(HEADING).collect::<String>().trim_end().to_owned()
}
