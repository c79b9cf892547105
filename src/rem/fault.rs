//! What is wrong with a query, for whoever wrote it.

use std::fmt;

/// Kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 400: it cannot be read.
    ParseError,
    /// 400: a number or a word is out of its range.
    InvalidArgument,
    /// 400: there is no such table.
    UnknownTable,
    /// 400: a statement that would change something.
    ReadOnly,
    /// 400: a statement that names what may not be used.
    NotAllowed,
    /// 401: no key, or none that is known.
    Unauthorised,
    /// 403: the key may not ask here.
    Forbidden,
    /// 404: nothing of that id, or nothing of yours.
    NotFound,
    /// 408: it took too long.
    Timeout,
    /// 409: texts of this tenant may not be kept in the clear.
    Sealed,
    /// 413: too large.
    TooLarge,
    /// 429: too many.
    RateLimited,
    /// 503: the embedder does not answer.
    EmbeddingUnavailable,
    /// 503: the store does not answer, or cannot do this here.
    Unavailable,
}

impl Code {
    /// In `code` of problem details and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParseError => "parse_error",
            Self::InvalidArgument => "invalid_argument",
            Self::UnknownTable => "unknown_table",
            Self::ReadOnly => "read_only",
            Self::NotAllowed => "not_allowed",
            Self::Unauthorised => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::Sealed => "sealed",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::EmbeddingUnavailable => "embedding_unavailable",
            Self::Unavailable => "unavailable",
        }
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::ParseError | Self::InvalidArgument | Self::UnknownTable | Self::ReadOnly | Self::NotAllowed => 400,
            Self::Unauthorised => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Timeout => 408,
            Self::Sealed => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::EmbeddingUnavailable | Self::Unavailable => 503,
        }
    }
}

/// A query, or a row, that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind.
    pub code: Code,
    /// What is wrong, and where.
    pub detail: String,
    /// Where in the text of the query: characters from its beginning, from 0.
    pub position: Option<usize>,
    /// How to mend it.
    pub hint: Option<String>,
    /// Name of the parameter, clause or member that is wrong.
    pub parameter: Option<String>,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), position: None, hint: None, parameter: None }
    }

    /// The same, at this character.
    #[must_use]
    pub fn at(self, position: usize) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The same, with advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, of this parameter.
    #[must_use]
    pub fn of(self, parameter: impl Into<String>) -> Self {
        Self { parameter: Some(parameter.into()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(position) = self.position {
            write!(f, " (at character {position})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
