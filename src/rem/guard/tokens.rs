//! The first look at a statement, before it is parsed: what words it is made of. Literals that the two databases read in two
//! ways go no further, and neither does a statement that starts as one that writes.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::super::{Code, Fault};
use super::{not_allowed, offset, read_only};

/// Most words and signs: the depth of the tree is bounded by it before there is a tree.
const MOST: usize = 4_000;

/// First words of statements that change something, or the session.
const WRITES: [&str; 58] = [
    "ABORT",
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DETACH",
    "DISCARD",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "FETCH",
    "GRANT",
    "IMPORT",
    "INSERT",
    "INSTALL",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PRAGMA",
    "PREPARE",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "RENAME",
    "REPLACE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SET",
    "START",
    "TRUNCATE",
    "UNLISTEN",
    "UPDATE",
    "UPSERT",
    "USE",
    "VACUUM",
    "UNLOAD",
    "KILL",
    "FLUSH",
    "EXPORT",
];

/// Whether a statement that begins with this word would change something.
pub(in crate::rem) fn writes(word: &str) -> bool {
    WRITES.iter().any(|write| write.eq_ignore_ascii_case(word))
}

/// The words and signs of a statement, with their places.
pub(super) fn read(text: &str) -> Result<Vec<TokenWithSpan>, Fault> {
    if let Some(position) = text.chars().position(|letter| letter == '\0') {
        return Err(not_allowed("the statement has a character NUL").at(position));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
        let fault =
            Fault::new(Code::ParseError, format!("the statement cannot be read: {}", error.message.to_lowercase()));
        placed(text, fault, error.location)
    })?;
    if tokens.len() > MOST {
        return Err(not_allowed(format!("the statement has too many words and signs; at most {MOST} are allowed")));
    }
    let seen = || tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    let mut first = true;
    for (number, token) in seen().enumerate() {
        let word = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => String::new(),
        };
        if first && writes(&word) {
            let fault = read_only(format!("{word} would change something"));
            return Err(placed(text, fault, token.span.start));
        }
        if number == 0 && word != "SELECT" && word != "WITH" {
            let fault = match word.as_str() {
                "EXPLAIN" | "SHOW" | "DESCRIBE" | "DESC" | "VALUES" | "TABLE" => {
                    not_allowed(format!("{word} may not be used here"))
                }
                _ => Fault::new(Code::ParseError, "the statement does not start with SELECT or WITH"),
            };
            return Err(placed(text, fault.hint("write SELECT … FROM …"), token.span.start));
        }
        first = token.token == Token::SemiColon;
        if let Some(what) = refused(&token.token) {
            return Err(placed(text, not_allowed(format!("{what} may not be used here")), token.span.start));
        }
    }
    Ok(tokens)
}

fn placed(text: &str, fault: Fault, place: Location) -> Fault {
    match offset(text, place) {
        Some(position) => fault.at(position),
        None => fault,
    }
}

/// What a word or sign is, if it can be no part of a statement here. Signs that can are listed; whatever else there is cannot.
fn refused(token: &Token) -> Option<&'static str> {
    match token {
        Token::Word(word) => match word.quote_style {
            None | Some('"') => None,
            Some(_) => Some("this way to quote a name"),
        },
        Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::DoubleColon
        | Token::SemiColon => None,
        Token::DollarQuotedString(_) => Some("a dollar-quoted text"),
        Token::EscapedStringLiteral(_) => Some("a text with escapes, E'…',"),
        Token::UnicodeStringLiteral(_) => Some("a text U&'…'"),
        Token::NationalStringLiteral(_) => Some("a text N'…'"),
        Token::HexStringLiteral(_) | Token::SingleQuotedByteStringLiteral(_) => Some("a string of bits or bytes"),
        Token::Placeholder(_) | Token::Question | Token::Colon | Token::AtSign => Some("a parameter"),
        Token::Tilde
        | Token::TildeAsterisk
        | Token::ExclamationMarkTilde
        | Token::ExclamationMarkTildeAsterisk
        | Token::DoubleTilde
        | Token::DoubleTildeAsterisk => Some("matching by a regular expression or `~~`"),
        Token::Backslash => Some("a backslash outside of a text"),
        Token::LBracket | Token::RBracket => Some("an array"),
        _ => Some("this sign or literal"),
    }
}
