//! The dependencies inside the library point one way, and a few things are done in one place only.
//!
//! Read from the source text, because the compiler allows any module of a crate to name any other. What is inside a
//! `mod tests` is not looked at: tests may build whatever they need.

use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom. A module may name modules of its own row and of the rows below.
const ROWS: [&[&str]; 7] = [
    &["cli"],
    &["app"],
    &["admin", "alert", "rem", "simulate", "replay", "transfer"],
    &["pipeline"],
    &["server", "tenant", "limit", "price", "dialect", "call", "cache", "upstream", "account"],
    &["embed", "index", "shared", "store", "task", "telemetry"],
    &["config", "json", "ids", "clock"],
];

/// What may be written in some modules only, and why.
const ONE_PLACE: [(&str, &[&str], &str); 4] = [
    ("sqlx", &["store"], "only the store knows SQL"),
    ("SystemTime::now", &["clock"], "tests must be able to move the time"),
    ("std::process::exit", &["cli"], "only the command line may end the process"),
    ("std::env::", &["cli", "app"], "the environment is read once and passed on"),
];

/// Names that say nothing about what is inside.
const NO_NOUN: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "manager"];

const LONGEST_FILE: usize = 500;

struct Source {
    /// Relative to `src/`, as in `cache/exact.rs`.
    path: String,
    /// The whole text.
    text: String,
    /// The code without comments and without test modules.
    code: String,
}

impl Source {
    /// The top-level module the file belongs to; `lib` and `main` for those two.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// How many `super::` lead to the root of the crate.
    fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { folders } else { folders + 1 }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let code = if is_test_file(&path) { String::new() } else { code_of(&text) };
        Source { path, text, code }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// Lines that are neither comments nor inside a module under `#[cfg(test)]`; such a module ends at a `}` in the first
/// column, as rustfmt writes it.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let (mut after_cfg, mut in_tests) = (false, false);
    for line in text.lines() {
        if in_tests {
            in_tests = line != "}";
        } else if after_cfg && line.starts_with("mod ") && line.ends_with('{') {
            in_tests = true;
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
        after_cfg = line == "#[cfg(test)]";
    }
    code
}

/// The top-level modules that `code` names through `prefix`, as in `crate::store::…` or `crate::{store, ids::KeyId}`.
fn named(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let continues = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &code[at + prefix.len()..];
        if continues {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.push(head(rest)),
        }
    }
    found
}

/// The first names inside a `{…}` of a `use`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut heads) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(std::mem::take(&mut item).trim())),
            c => item.push(c),
        }
    }
    heads.push(head(item.trim()));
    heads
}

fn head(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Each `file names module` that goes upwards.
fn upward(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let Some(from) = row(source.module()) else { continue };
        let mut names = named(&source.code, "crate::");
        names.extend(named(&source.code, &"super::".repeat(source.depth())));
        names.sort_unstable();
        names.dedup();
        for name in names {
            if row(&name).is_some_and(|to| to < from) {
                wrong.push(format!("{} names {name}", source.path));
            }
        }
    }
    wrong
}

#[test]
fn dependencies_point_downwards_only() {
    assert_eq!(upward(&sources()), Vec::<String>::new(), "rows, top to bottom: {ROWS:?}");
}

#[test]
fn every_module_has_its_row() {
    for source in sources() {
        let module = source.module();
        assert!(matches!(module, "lib" | "main") || row(module).is_some(), "{module} is in no row of {ROWS:?}");
    }
}

#[test]
fn what_is_done_in_one_place_is_not_done_elsewhere() {
    for (text, allowed, why) in ONE_PLACE {
        for source in sources() {
            let here = allowed.contains(&source.module()) || source.module() == "main";
            assert!(here || !source.code.contains(text), "{} has {text}: {why}", source.path);
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for source in sources().iter().filter(|source| !is_test_file(&source.path)) {
        assert!(source.text.starts_with("//!"), "{} does not open with //!", source.path);
    }
}

#[test]
fn files_are_short_and_have_a_noun() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", source.path);
        let named_badly = source.path.split(['/', '.']).any(|part| NO_NOUN.contains(&part));
        assert!(!named_badly, "{} has no noun", source.path);
    }
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into(), code: code_of(text) };
    let sources = [
        source("store/mod.rs", "use crate::cache::Entry;\n"),
        source("store/sqlite.rs", "use crate::{config::Store, pipeline::{self, run}};\n"),
        source("index/mod.rs", "use super::cache;\n"),
        source("index/flat.rs", "use super::super::call;\nuse super::cache;\n"),
        source("json.rs", "// crate::server\nfn f() { crate::app::run() }\n"),
        source(
            "cache/mod.rs",
            "use crate::store;\n#[cfg(test)]\nmod tests {\n    use crate::server;\n}\nuse crate::cli;\n",
        ),
        source("tenant/mod.rs", "use other_crate::server;\nuse crate::ids::KeyId;\n"),
    ];
    assert_eq!(
        upward(&sources),
        [
            "store/mod.rs names cache",
            "store/sqlite.rs names pipeline",
            "index/mod.rs names cache",
            "index/flat.rs names call",
            "json.rs names app",
            "cache/mod.rs names cli",
        ]
    );
}
