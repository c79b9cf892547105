//! Reads a condition: its tokens, and by recursive descent its comparisons.

use super::super::super::{Code, Fault};
use super::super::draft::short;
use super::{At, Term, Value, fault};
use crate::store::rem::Compare;

/// How deep NOT and parentheses may go.
const DEPTH: usize = 32;
/// Comparisons of one condition.
const COMPARISONS: usize = 256;
/// Literals of one condition.
const LITERALS: usize = 1_000;
/// Bytes of one pattern, and of all patterns of a condition. A database compares a pattern by recursion, one level for each wildcard, and
/// may go through a text once for each of its letters.
const PATTERN: usize = 1_000;
const PATTERNS: usize = 4_000;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word in lower case, and whether it stood in quotes.
    Word(String, bool),
    Text(String),
    Number(String),
    Sign(&'static str),
}

const SIGNS: [&str; 24] = [
    "<=>", "->>", "<>", "!=", "<=", ">=", "||", "::", "->", "~~", "--", "/*", "=", "<", ">", "(", ")", ",", "-", "+",
    "*", "/", "%", ";",
];

fn tokens(text: &str) -> Result<Vec<At<Token>>, Fault> {
    let letters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let slice = |from: usize, to: usize| letters.get(from..to).unwrap_or_default().iter().collect::<String>();
    let run = |from: usize, fits: fn(char) -> bool| {
        letters.get(from..).unwrap_or_default().iter().take_while(|letter| fits(**letter)).count()
    };
    while let Some(letter) = letters.get(at).copied() {
        let from = at;
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let token = if letter == '\'' || letter == '"' {
            let (inside, end) = quoted(&letters, at).ok_or_else(|| {
                let hint = format!("put another {letter} where the text ends; one inside of it is doubled");
                fault(Code::ParseError, from, format!("the quote {letter} is not closed")).hint(hint)
            })?;
            at = end;
            if letter == '"' { Token::Word(inside, true) } else { Token::Text(inside) }
        } else if letter.is_ascii_digit() {
            at += run(at, |letter| letter.is_alphanumeric() || letter == '.' || letter == '_');
            Token::Number(slice(from, at))
        } else if letter.is_alphabetic() || letter == '_' {
            at += run(at, |letter| letter.is_alphanumeric() || letter == '_');
            Token::Word(slice(from, at).to_lowercase(), false)
        } else {
            let sign = SIGNS.into_iter().find(|sign| slice(at, at + sign.len()) == **sign);
            let sign = sign.ok_or_else(|| fault(Code::NotAllowed, from, format!("`{letter}` has no meaning here")))?;
            at += sign.len();
            Token::Sign(sign)
        };
        tokens.push(At(token, from));
    }
    Ok(tokens)
}

/// A text in the quotes that stand here, and where it ends.
fn quoted(letters: &[char], from: usize) -> Option<(String, usize)> {
    let quote = letters.get(from)?;
    let (mut text, mut at) = (String::new(), from + 1);
    loop {
        let letter = letters.get(at)?;
        at += 1;
        if letter == quote {
            if letters.get(at) != Some(quote) {
                return Some((text, at));
            }
            at += 1;
        }
        text.push(*letter);
    }
}

pub(super) struct Reader {
    tokens: Vec<At<Token>>,
    next: usize,
    /// Characters of the text.
    end: usize,
    comparisons: usize,
    literals: usize,
    patterns: usize,
}

/// A side of a comparison.
enum Side {
    Column(At<String>),
    Value(At<Value>),
}

impl Reader {
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        Ok(Self { tokens: tokens(text)?, next: 0, end: text.chars().count(), comparisons: 0, literals: 0, patterns: 0 })
    }

    pub(super) fn whole(mut self) -> Result<Term, Fault> {
        let term = self.any(0)?;
        match self.peek() {
            None => Ok(term),
            Some(_) => Err(self.unexpected()),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|token| &token.0)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |token| token.1)
    }

    fn sign(&mut self, sign: &str) -> bool {
        let here = matches!(self.peek(), Some(Token::Sign(other)) if *other == sign);
        self.next += usize::from(here);
        here
    }

    fn word(&mut self, word: &str) -> bool {
        let here = matches!(self.peek(), Some(Token::Word(other, false)) if other == word);
        self.next += usize::from(here);
        here
    }

    /// What stands here is not what could follow.
    fn unexpected(&self) -> Fault {
        let at = self.at();
        let shown = match self.peek() {
            None => return fault(Code::ParseError, at, "the condition ends too early"),
            Some(Token::Word(word, _)) => word.to_uppercase(),
            Some(Token::Text(text)) => format!("'{text}'"),
            Some(Token::Number(number)) => number.clone(),
            Some(Token::Sign(sign @ ("(" | ")" | "," | "=" | "<" | ">" | "<>" | "!=" | "<=" | ">="))) => {
                return fault(Code::ParseError, at, format!("`{sign}` cannot stand here"));
            }
            Some(Token::Sign(sign)) => {
                return fault(Code::NotAllowed, at, format!("`{sign}` is not allowed in a condition"));
            }
        };
        fault(Code::ParseError, at, format!("`{}` cannot stand here", short(&shown)))
    }

    fn any(&mut self, depth: usize) -> Result<Term, Fault> {
        let mut terms = vec![self.all(depth)?];
        while self.word("or") {
            terms.push(self.all(depth)?);
        }
        Ok(joined(terms, false))
    }

    fn all(&mut self, depth: usize) -> Result<Term, Fault> {
        let mut terms = vec![self.not(depth)?];
        while self.word("and") {
            terms.push(self.not(depth)?);
        }
        Ok(joined(terms, true))
    }

    fn not(&mut self, depth: usize) -> Result<Term, Fault> {
        let at = self.at();
        if depth > DEPTH {
            return Err(fault(Code::InvalidArgument, at, format!("a condition is at most {DEPTH} levels deep")));
        }
        if self.word("not") {
            return Ok(Term::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.sign("(") {
            if matches!(self.peek(), Some(Token::Word(word, false)) if word == "select" || word == "with") {
                return Err(fault(Code::NotAllowed, self.at(), "a condition cannot contain a SELECT"));
            }
            let term = self.any(depth + 1)?;
            return if self.sign(")") { Ok(term) } else { Err(self.unexpected()) };
        }
        self.comparisons += 1;
        if self.comparisons > COMPARISONS {
            return Err(fault(Code::InvalidArgument, at, format!("a condition has at most {COMPARISONS} comparisons")));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Term, Fault> {
        let left = self.side()?;
        if let Some(compare) = self.compare() {
            return match (left, self.side()?) {
                (Side::Column(column), Side::Value(value)) => Ok(Term::Is(column, compare, value)),
                (Side::Value(value), Side::Column(column)) => Ok(Term::Is(column, turned(compare), value)),
                (_, Side::Column(At(_, at))) => {
                    Err(fault(Code::NotAllowed, at, "two columns cannot be compared with each other"))
                }
                (_, Side::Value(At(_, at))) => Err(fault(Code::NotAllowed, at, "one side must be a column")),
            };
        }
        let Side::Column(column) = left else { return Err(self.unexpected()) };
        if self.word("is") {
            let not = self.word("not");
            return if self.word("null") { Ok(negated(Term::Missing(column), not)) } else { Err(self.unexpected()) };
        }
        let not = self.word("not");
        let term = if self.word("in") {
            Term::In(column, self.list()?)
        } else if self.word("between") {
            let least = self.value()?;
            if !self.word("and") {
                return Err(self.unexpected());
            }
            let most = self.value()?;
            let (low, high) = (Compare::GreaterOrEqual, Compare::LessOrEqual);
            Term::And(vec![Term::Is(column.clone(), low, least), Term::Is(column, high, most)])
        } else if self.word("like") {
            Term::Like(column, self.pattern()?)
        } else {
            return Err(match self.peek() {
                Some(Token::Word(word, false))
                    if ["ilike", "similar", "regexp", "glob", "collate"].contains(&word.as_str()) =>
                {
                    fault(Code::NotAllowed, self.at(), format!("{} is not allowed in a condition", word.to_uppercase()))
                }
                _ => self.unexpected(),
            });
        };
        Ok(negated(term, not))
    }

    fn compare(&mut self) -> Option<Compare> {
        let Some(Token::Sign(sign)) = self.peek() else { return None };
        let compare = match *sign {
            "=" => Compare::Equal,
            "<>" | "!=" => Compare::NotEqual,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterOrEqual,
            _ => return None,
        };
        self.next += 1;
        Some(compare)
    }

    fn side(&mut self) -> Result<Side, Fault> {
        let at = self.at();
        let Some(Token::Word(word, quoted)) = self.peek().cloned() else { return self.value().map(Side::Value) };
        if self.at_typed() {
            return self.value().map(Side::Value);
        }
        let follows = self.tokens.get(self.next + 1).map(|token| &token.0);
        if follows == Some(&Token::Sign("(")) && word != "in" {
            let detail = format!("{}(…) is not allowed in a condition", short(&word));
            return Err(fault(Code::NotAllowed, at, detail));
        }
        if !quoted && matches!(word.as_str(), "null" | "true" | "false" | "case" | "select" | "current_timestamp") {
            let shown = word.to_uppercase();
            let fault = fault(Code::NotAllowed, at, format!("{shown} is not allowed here"));
            return Err(if word == "null" { fault.hint("as in: uri IS NULL, or uri IS NOT NULL") } else { fault });
        }
        self.next += 1;
        Ok(Side::Column(At(word, at)))
    }

    /// Whether `DATE '2024-01-15'` stands here: what a literal is, the column says.
    fn at_typed(&self) -> bool {
        let follows = self.tokens.get(self.next + 1).map(|token| &token.0);
        let named = matches!(self.peek(), Some(Token::Word(word, false)) if word == "date" || word == "timestamp");
        named && matches!(follows, Some(Token::Text(_)))
    }

    fn value(&mut self) -> Result<At<Value>, Fault> {
        let at = self.at();
        self.next += usize::from(self.at_typed());
        let minus = self.sign("-");
        let value = match self.peek().cloned() {
            Some(Token::Text(text)) if !minus => Value::Text(text),
            Some(Token::Number(number)) => Value::Number(if minus { format!("-{number}") } else { number }),
            _ => {
                let found = self.unexpected();
                let wants = "a literal must stand here, as in 'meeting' or 3";
                return Err(Fault { detail: format!("{}; {wants}", found.detail), ..found });
            }
        };
        self.next += 1;
        self.literals += 1;
        if self.literals > LITERALS {
            return Err(fault(Code::InvalidArgument, at, format!("a condition has at most {LITERALS} literals")));
        }
        Ok(At(value, at))
    }

    fn list(&mut self) -> Result<Vec<At<Value>>, Fault> {
        if !self.sign("(") {
            return Err(self.unexpected());
        }
        if matches!(self.peek(), Some(Token::Word(word, false)) if word == "select" || word == "with") {
            return Err(fault(Code::NotAllowed, self.at(), "a condition cannot contain a SELECT"));
        }
        let mut values = vec![self.value()?];
        while self.sign(",") {
            values.push(self.value()?);
        }
        if self.sign(")") { Ok(values) } else { Err(self.unexpected()) }
    }

    fn pattern(&mut self) -> Result<At<String>, Fault> {
        let At(value, at) = self.value()?;
        let Value::Text(pattern) = value else {
            return Err(fault(Code::InvalidArgument, at, "LIKE takes a text, as in LIKE 'plan%'"));
        };
        self.patterns = self.patterns.saturating_add(pattern.len());
        if pattern.len() > PATTERN || self.patterns > PATTERNS {
            let detail = format!(
                "a pattern of LIKE has at most {PATTERN} bytes, and all patterns of a condition have at most {PATTERNS}"
            );
            return Err(fault(Code::InvalidArgument, at, detail).hint("look for a shorter piece of the text"));
        }
        if self.word("escape") {
            let escape = self.value()?;
            if escape.0 != Value::Text("\\".to_owned()) {
                return Err(fault(Code::NotAllowed, escape.1, "the only escape of LIKE is the backslash"));
            }
        }
        if pattern.chars().rev().take_while(|letter| *letter == '\\').count() % 2 == 1 {
            let detail = "the pattern of LIKE ends with a backslash that escapes nothing";
            return Err(fault(Code::InvalidArgument, at, detail).hint("a backslash itself is written twice"));
        }
        Ok(At(pattern, at))
    }
}

fn negated(term: Term, not: bool) -> Term {
    if not { Term::Not(Box::new(term)) } else { term }
}

/// The same comparison with its sides exchanged.
fn turned(compare: Compare) -> Compare {
    match compare {
        Compare::Less => Compare::Greater,
        Compare::LessOrEqual => Compare::GreaterOrEqual,
        Compare::Greater => Compare::Less,
        Compare::GreaterOrEqual => Compare::LessOrEqual,
        same @ (Compare::Equal | Compare::NotEqual) => same,
    }
}

/// One list of what AND, or OR, joins; lists of the same kind inside of it are part of it.
fn joined(terms: Vec<Term>, and: bool) -> Term {
    let mut flat = Vec::with_capacity(terms.len());
    for term in terms {
        match term {
            Term::And(inner) if and => flat.extend(inner),
            Term::Or(inner) if !and => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.pop() {
        Some(only) if flat.is_empty() => only,
        last => {
            flat.extend(last);
            if and { Term::And(flat) } else { Term::Or(flat) }
        }
    }
}
