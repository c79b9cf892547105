//! Keys that do not exist: a typing error gets a suggestion, a later feature gets told so.

use super::problem::{Problem, ProblemKind, Source};
use super::tree::Node;

/// Keys and sections of the published interface that this version does not have yet.
const LATER: [&str; 5] = ["route", "tenant.key.budgets", "upstream.fallback", "upstream.kind", "upstream.weight"];

/// The problem of an unknown key. `siblings` are the keys its section has, `known` all keys there are.
pub(super) fn problem(path: &str, key: &str, node: &Node, siblings: &[String], known: &[String]) -> Problem {
    let source = node.source.clone();
    let plain = without_numbers(path);
    if LATER.contains(&plain.as_str()) {
        return Problem {
            source,
            key: path.to_owned(),
            kind: ProblemKind::NotSupported,
            message: "is not supported in this version".to_owned(),
            fix: "remove it".to_owned(),
            suggestion: None,
        };
    }
    let suggestion = nearest(key, siblings).or_else(|| elsewhere(key, known));
    let fix = match (&source, &suggestion) {
        (Source::Env(_), Some(meant)) => format!("set {} instead", env_name(&plain, key, meant)),
        (_, Some(_)) => "rename it, or remove it".to_owned(),
        (_, None) => "remove it; config/remora.toml lists every key".to_owned(),
    };
    let message = "unknown key".to_owned();
    Problem { source, key: path.to_owned(), kind: ProblemKind::UnknownKey, message, fix, suggestion }
}

/// `tenant[0].key[1].name` as `tenant.key.name`.
pub(super) fn without_numbers(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// The sibling within two edits (one for short names; a swap of neighbours counts as one), if any.
fn nearest(key: &str, siblings: &[String]) -> Option<String> {
    let key = key.to_lowercase();
    let edits = |name: &str| strsim::damerau_levenshtein(&key, name);
    let (distance, name) = siblings.iter().map(|name| (edits(name), name)).min()?;
    let allowed = if name.chars().count() <= 3 { 1 } else { 2 };
    (distance <= allowed).then(|| name.clone())
}

/// The same name in another section.
fn elsewhere(key: &str, known: &[String]) -> Option<String> {
    known.iter().find(|path| path.rsplit('.').next() == Some(key)).cloned()
}

/// The environment variable of the suggested key: a sibling's name, or a whole path.
fn env_name(plain: &str, key: &str, meant: &str) -> String {
    let section = plain.strip_suffix(key).unwrap_or_default();
    let path = if meant.contains('.') { meant.to_owned() } else { format!("{section}{meant}") };
    format!("REMORA__{}", path.replace('.', "__").to_uppercase())
}
