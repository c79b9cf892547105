//! Secrets: named by the configuration, never written in it.
//!
//! `NAME_env` holds the name of an environment variable, `NAME_file` the path of a file. A bare `NAME` is refused, and
//! nothing here ever quotes what was written, because people do paste the key itself into the wrong place.

use std::io::Read as _;
use std::path::Path;

use super::Secret;
use super::problem::ProblemKind;
use super::reader::Reader;

/// Shortest secret that callers may have to present, in characters. Below it, guessing is a threat.
const SHORTEST_SHARED: usize = 20;
/// Largest secret file, in bytes. A larger one is the wrong file.
const LARGEST_FILE: u64 = 64 * 1024;

/// What a secret is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sent to somebody else, who chose it.
    Sent,
    /// Presented to us; must be hard to guess.
    Presented,
}

/// Reads the secret called `name` from `name_env` or `name_file`. `None` when neither is set, or after a problem.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, purpose: Purpose) -> Option<Secret> {
    let (env_key, file_key) = (format!("{name}_env"), format!("{name}_file"));
    if let Some(node) = reader.refuse(name) {
        let message = "a secret may not be written into the configuration".to_owned();
        let fix = format!(
            "put it into an environment variable and name that in `{env_key}`, or into a file named in `{file_key}`"
        );
        reader.note(name, &node.source, ProblemKind::LiteralSecret, message, fix);
    }
    let variable = optional(reader, &env_key);
    let file = optional(reader, &file_key);
    let (key, found) = match (variable, file) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            let message = format!("both `{env_key}` and `{file_key}` are set");
            let source = reader.source_of(&file_key);
            reader.note(&file_key, &source, ProblemKind::Conflict, message, "keep one of them".to_owned());
            return None;
        }
        (Some(variable), None) => (env_key, from_env(reader, &variable)),
        (None, Some(file)) => (file_key, from_file(&file)),
    };
    match found.and_then(|text| usable(text, purpose)) {
        Ok(secret) => Some(secret),
        Err(Refused { kind, message, fix }) => {
            let source = reader.source_of(&key);
            reader.note(&key, &source, kind, message, fix);
            None
        }
    }
}

struct Refused {
    kind: ProblemKind,
    message: String,
    fix: String,
}

fn refused(kind: ProblemKind, message: &str, fix: &str) -> Refused {
    Refused { kind, message: message.to_owned(), fix: fix.to_owned() }
}

fn optional(reader: &mut Reader<'_>, key: &str) -> Option<String> {
    let text = if reader.has(key) { reader.text(key) } else { String::new() };
    (!text.is_empty()).then_some(text)
}

fn from_env(reader: &Reader<'_>, variable: &str) -> Result<String, Refused> {
    let is_name = variable.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    match reader.context.env.get(variable) {
        Some(text) if !text.trim().is_empty() => Ok(text.clone()),
        // A name in capitals is surely a name; anything else may be the secret itself and is not repeated.
        _ if is_name && variable.len() <= 64 => Err(refused(
            ProblemKind::BadSecret,
            &format!("environment variable {variable} is not set or empty"),
            &format!("set {variable} in the environment of the process, or name another variable"),
        )),
        _ => Err(refused(
            ProblemKind::BadSecret,
            "the environment variable that is named here is not set or empty",
            "write the name of a variable, as in OPENAI_API_KEY, not the secret itself, and set that variable",
        )),
    }
}

fn from_file(path: &str) -> Result<String, Refused> {
    read_limited(Path::new(path), LARGEST_FILE).map_err(|error| {
        refused(
            ProblemKind::Unreadable,
            &format!("the file cannot be read: {error}"),
            "give the path of a text file that this user may read; relative paths start at the working directory",
        )
    })
}

/// Reads a text file of at most `most` bytes.
pub(super) fn read_limited(path: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > most {
        return Err(std::io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(text)
}

fn usable(text: String, purpose: Purpose) -> Result<Secret, Refused> {
    let secret = Secret::new(text);
    let text = secret.expose().trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(
            ProblemKind::BadSecret,
            "the secret is empty or has characters that cannot be sent in a header",
            "use printable ASCII without blanks, on one line",
        ));
    }
    if purpose == Purpose::Presented && text.len() < SHORTEST_SHARED {
        return Err(refused(
            ProblemKind::BadSecret,
            &format!("the secret is shorter than {SHORTEST_SHARED} characters"),
            "make a random one, as with `openssl rand -hex 32`",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}
