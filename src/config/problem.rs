//! What is wrong with a configuration, said so that it can be mended without asking anybody.
//!
//! Every problem names where the value was written, which key it is, what is wrong, and what to write instead. No
//! problem ever quotes a value that could be a secret.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::json;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the embedded `config/remora.toml`.
    Default,
    /// In a file.
    File {
        /// The path as it was given.
        path: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// In an environment variable of this name.
    Env(Arc<str>),
    /// On the command line, as `--listen`.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The closed list of ways in which a configuration can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The file, or a file it names, cannot be read.
    Unreadable,
    /// Not TOML.
    Syntax,
    /// No such key.
    UnknownKey,
    /// Known, but not built yet.
    NotSupported,
    /// A string where a number belongs, or the like.
    WrongType,
    /// The right type, but not a value of this kind: a duration, size, address, URL, name.
    BadValue,
    /// Outside the documented range.
    OutOfRange,
    /// A key that must be given.
    Missing,
    /// A name or secret that is used twice.
    Duplicate,
    /// A credential written into the configuration itself.
    LiteralSecret,
    /// An environment variable that the configuration names is not set, or what it holds cannot be used.
    BadSecret,
    /// Two values that cannot hold together.
    Conflict,
}

impl ProblemKind {
    /// The name in `check --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Syntax => "syntax",
            Self::UnknownKey => "unknown_key",
            Self::NotSupported => "not_supported",
            Self::WrongType => "wrong_type",
            Self::BadValue => "bad_value",
            Self::OutOfRange => "out_of_range",
            Self::Missing => "missing",
            Self::Duplicate => "duplicate",
            Self::LiteralSecret => "literal_secret",
            Self::BadSecret => "bad_secret",
            Self::Conflict => "conflict",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub source: Source,
    /// Path of the key, as in `cache.ttl` or `tenant[0].key[1].name`; empty for the whole file.
    pub key: String,
    /// Which of the closed list.
    pub kind: ProblemKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// For an unknown key: the key that was probably meant.
    pub suggestion: Option<String>,
}

/// Everything that is wrong with one configuration, in the order it was found. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A JSON array of objects with the members `source`, `key`, `kind`, `message`, `fix` and `suggestion`; `source`
    /// has `kind` and, as they apply, `path`, `line`, `column` and `name`.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(problem_json).collect()
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// In the order of the file's lines; what is not in the file comes after it, as found.
    pub(super) fn in_reading_order(mut self) -> Self {
        self.0.sort_by_key(|problem| match problem.source {
            Source::File { line, column, .. } => (line, column),
            _ => (usize::MAX, 0),
        });
        self
    }

    /// Whether something was already found wrong at `key`, inside it, or in a section around it.
    pub(super) fn touch(&self, key: &str) -> bool {
        self.0.iter().any(|found| contains(key, &found.key) || contains(&found.key, key))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&check_report(self))
    }
}

impl std::error::Error for Problems {}

/// The report of `remora check` for people: two or three lines a problem and a count at the end.
pub fn check_report(problems: &Problems) -> String {
    let mut out = String::new();
    for problem in problems.iter() {
        let Problem { source, key, message, fix, suggestion, kind: _ } = problem;
        // Writing to a String cannot fail.
        let _ = match key.as_str() {
            "" => writeln!(out, "{source}: {message}"),
            key => writeln!(out, "{source}: {key}: {message}"),
        };
        if let Some(meant) = suggestion {
            let _ = writeln!(out, "    did you mean `{meant}`?");
        }
        let _ = writeln!(out, "    fix: {fix}");
    }
    let _ = match problems.len() {
        0 => writeln!(out, "configuration is valid"),
        1 => writeln!(out, "1 problem"),
        many => writeln!(out, "{many} problems"),
    };
    out
}

/// Whether the key `inner` is `outer` or inside it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn problem_json(problem: &Problem) -> serde_json::Value {
    let Problem { source, key, kind, message, fix, suggestion } = problem;
    let source = match source {
        Source::Default => json!({"kind": "default"}),
        Source::File { path, line, column } => {
            json!({"kind": "file", "path": &**path, "line": line, "column": column})
        }
        Source::Env(name) => json!({"kind": "env", "name": &**name}),
        Source::Flag(name) => json!({"kind": "flag", "name": name}),
    };
    json!({
        "source": source, "key": key, "kind": kind.as_str(), "message": message, "fix": fix, "suggestion": suggestion,
    })
}

/// Quotes what somebody wrote, short and without control characters, for use in a message.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
