//! Cuts a long document into parts: each small enough to be embedded as one thing, none cut in the middle of a thought if that can
//! be helped.
//!
//! Blocks of Markdown, or paragraphs of text, are put together until a part is full. A block that does not fit into any part is cut
//! at lines, sentences, words and at last between letters. Every character that is not blank is in exactly one part, in order.

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

/// From this many characters on a part may end, if a heading follows.
const LEAST: usize = 1_000;
/// A part that has enough ends before this many characters.
const USUAL: usize = 1_800;
/// No part has more characters.
pub const MOST: usize = 2_000;
/// Most characters of a heading in the name of a part.
const HEADING: usize = 200;

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
    let mut parts = Parts { text, parts: Vec::new(), title: String::new(), under: String::new(), open: 0..0, size: 0 };
    let blocks = match kind {
        Kind::Markdown => markdown(text),
        Kind::Text => paragraphs(text),
    };
    for block in blocks {
        if let Some(heading) = block.heading {
            if parts.size >= LEAST {
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
        let fits = |open: usize| open + size <= USUAL || (open < LEAST && open + size <= MOST);
        // What is no paragraph and no line of one any more is not cut only to fill a part.
        if !fits(self.size) && (self.size >= LEAST || (size <= MOST && cuts.len() <= 2)) {
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

/// Paragraphs with the blank lines behind them.
fn paragraphs(text: &str) -> Vec<Block> {
    let (mut blocks, mut start, mut at, mut blank) = (Vec::new(), 0, 0, false);
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if blank && !is_blank && at > start {
            blocks.push(Block { range: start..at, heading: None, whole: false });
            start = at;
        }
        blank = is_blank;
        at += line.len();
    }
    blocks.push(Block { range: start..text.len(), heading: None, whole: false });
    blocks
}

fn shortened(heading: &str) -> String {
    let words: Vec<&str> = heading.split_whitespace().collect();
    words.join(" ").chars().take(HEADING).collect::<String>().trim_end().to_owned()
}
