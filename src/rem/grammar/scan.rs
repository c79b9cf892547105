//! Reads a query's text character by character: blanks, words, quoted texts. It knows no keyword.

use super::super::{Code, Fault};

/// A text from a query, and where it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The text, without quotes and escapes.
    pub(super) text: String,
    /// Characters from the beginning of the query; `None` in JSON.
    pub(super) at: Option<usize>,
    /// Places in the text of characters that are written with two.
    pub(super) escaped: Vec<usize>,
}

impl Said {
    /// Where a character of the text stands in the query.
    pub(super) fn place(&self, at: usize) -> Option<usize> {
        let longer = self.escaped.iter().take_while(|escaped| **escaped < at).count();
        self.at.map(|from| from + at + longer)
    }
}

/// A place in a text.
pub(super) struct Scan {
    letters: Vec<char>,
    at: usize,
}

impl Scan {
    pub(super) fn new(text: &str) -> Self {
        Self { letters: text.chars().collect(), at: 0 }
    }

    /// Characters from the beginning.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at.min(self.letters.len());
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    /// The character so many after this one.
    pub(super) fn ahead(&self, steps: usize) -> Option<char> {
        self.letters.get(self.at.saturating_add(steps)).copied()
    }

    pub(super) fn step(&mut self) {
        self.go_to(self.at + 1);
    }

    pub(super) fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.step();
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.at >= self.letters.len()
    }

    /// Goes past this character if it is the next one.
    pub(super) fn take(&mut self, letter: char) -> bool {
        let here = self.peek() == Some(letter);
        if here {
            self.step();
        }
        here
    }

    /// The text between two places.
    pub(super) fn between(&self, from: usize, to: usize) -> String {
        self.letters.get(from..to.min(self.letters.len())).unwrap_or_default().iter().collect()
    }

    /// Goes past what is no blank, up to a comma if that is asked for, and gives it.
    pub(super) fn word(&mut self, to_comma: bool) -> String {
        let from = self.at;
        while self.peek().is_some_and(|letter| !(letter.is_whitespace() || to_comma && letter == ',')) {
            self.step();
        }
        self.between(from, self.at)
    }

    /// Goes past letters, digits and `_`, and gives them.
    pub(super) fn name(&mut self) -> String {
        let from = self.at;
        while self.peek().is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            self.step();
        }
        self.between(from, self.at)
    }

    pub(super) fn at_quote(&self) -> bool {
        matches!(self.peek(), Some('"' | '\''))
    }

    /// Reads a quoted text. In it, a backslash before a quote or a backslash, and a doubled quote, stand for one character;
    /// any other backslash is one.
    pub(super) fn quoted(&mut self) -> Result<Said, Fault> {
        let from = self.at;
        let Some(quote) = self.peek() else {
            return Err(Fault::new(Code::ParseError, "a quoted text is missing").at(from));
        };
        self.step();
        let (mut text, mut length, mut escaped) = (String::new(), 0, Vec::new());
        loop {
            match (self.peek(), self.ahead(1)) {
                (None, _) => {
                    return Err(Fault::new(Code::ParseError, format!("the quote {quote} is not closed"))
                        .at(from)
                        .hint(format!("put another {quote} where the text ends")));
                }
                (Some('\\'), Some(next)) if matches!(next, '"' | '\'' | '\\') => {
                    text.push(next);
                    escaped.push(length);
                    self.step();
                }
                (Some(letter), Some(next)) if letter == quote && next == quote => {
                    text.push(quote);
                    escaped.push(length);
                    self.step();
                }
                (Some(letter), _) if letter == quote => {
                    self.step();
                    return Ok(Said { text, at: Some(from), escaped });
                }
                (Some(letter), _) => text.push(letter),
            }
            length += 1;
            self.step();
        }
    }
}

/// A text in double quotes, as [`Scan::quoted`] reads it.
pub(in crate::rem) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}
