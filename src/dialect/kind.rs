//! Which wire format a request speaks.
//!
//! Decided once, from method and path, before the body is read. It must never look at the body: the route that was
//! authorised is the route that is parsed.

use std::fmt;

use http::Method;

/// A wire format.
///
/// `POST /v1/responses` and `POST /v1/messages` are [`Dialect::Other`] for now: passed through, never stored. Their
/// variants go between `Embeddings` and `Models`, each with an assembler beside `assemble.rs` and a judge in `verdict.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `GET /v1/models`.
    Models,
    /// Everything else: bytes are passed through.
    Other,
}

impl Dialect {
    /// The wire format of a request line. `path` is without query; matching is exact, as in the authorisation step.
    pub fn of(method: &Method, path: &str) -> Self {
        match (method, path) {
            (&Method::POST, "/v1/chat/completions") => Self::Chat,
            (&Method::POST, "/v1/completions") => Self::Completions,
            (&Method::POST, "/v1/embeddings") => Self::Embeddings,
            (&Method::GET, "/v1/models") => Self::Models,
            _ => Self::Other,
        }
    }

    /// Name for logs, metric labels and stored entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Other => "other",
        }
    }

    /// The inverse of [`Dialect::as_str`], for what was stored. An unknown name is [`Dialect::Other`], which is never served.
    pub fn from_name(name: &str) -> Self {
        match name {
            "chat" => Self::Chat,
            "completions" => Self::Completions,
            "embeddings" => Self::Embeddings,
            "models" => Self::Models,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_follows_from_method_and_exact_path() {
        assert_eq!(Dialect::of(&Method::POST, "/v1/chat/completions"), Dialect::Chat);
        assert_eq!(Dialect::of(&Method::POST, "/v1/completions"), Dialect::Completions);
        assert_eq!(Dialect::of(&Method::POST, "/v1/embeddings"), Dialect::Embeddings);
        assert_eq!(Dialect::of(&Method::GET, "/v1/models"), Dialect::Models);
        for (method, path) in [
            (Method::GET, "/v1/chat/completions"),
            (Method::POST, "/v1/models"),
            (Method::POST, "/v1/chat/completions/"),
            (Method::POST, "/V1/chat/completions"),
            (Method::POST, "/v1/responses"),
            (Method::POST, "/v1/messages"),
        ] {
            assert_eq!(Dialect::of(&method, path), Dialect::Other, "{method} {path}");
        }
    }

    #[test]
    fn names_round_trip() {
        for dialect in [Dialect::Chat, Dialect::Completions, Dialect::Embeddings, Dialect::Models, Dialect::Other] {
            assert_eq!(Dialect::from_name(dialect.as_str()), dialect);
        }
    }
}
