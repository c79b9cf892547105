//! The prompt of `remora rem`: history over sessions, completion of keywords and tables, and marks under what is wrong.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::ask::RemAt;
use super::complaint;
use crate::rem::GRAMMAR;
use crate::store::rem::VIEWS;

const WELCOME: &str = "LOOKUP, FUZZY, SEARCH, TRAVERSE or SQL; `help` shows the grammar, `explain QUERY` the way to an answer, Ctrl-D ends.";

const KEYWORDS: [&str; 43] = [
    "LOOKUP",
    "FUZZY",
    "SEARCH",
    "TRAVERSE",
    "SQL",
    "SELECT",
    "IN",
    "FROM",
    "TABLE",
    "LIMIT",
    "AFTER",
    "THRESHOLD",
    "FIELD",
    "WHERE",
    "CATEGORY",
    "MIN_SIMILARITY",
    "MODE",
    "WITH",
    "TYPE",
    "OUTBOUND",
    "INBOUND",
    "BOTH",
    "DEPTH",
    "PLAN",
    "MIN_WEIGHT",
    "LOAD",
    "LAZY",
    "KEYS",
    "ORDER",
    "BY",
    "ASC",
    "DESC",
    "MEMO",
    "AND",
    "OR",
    "NOT",
    "LIKE",
    "BETWEEN",
    "IS",
    "NULL",
    "GROUP",
    "help",
    "explain",
];

/// Width of the terminal that standard output is; `None` if it is none.
pub(super) fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || Some(usize::from(rustyline::DefaultEditor::new().ok()?.dimensions()?.0));
    columns.or_else(asked).filter(|width| *width >= 20)
}

/// Asks until the end of the input.
pub(super) async fn run(at: &RemAt) -> Result<(), String> {
    let mut editor: Editor<Words, FileHistory> = Editor::new().map_err(|error| error.to_string())?;
    editor.set_helper(Some(Words));
    let history = history_file(|name| std::env::var_os(name));
    if let Some(file) = &history {
        if let Some(folder) = file.parent() {
            // Without a history the prompt works all the same.
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.load_history(file);
    }
    println!("{WELCOME}");
    loop {
        let line = match editor.readline("rem> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(format!("the terminal cannot be read: {error}")),
        };
        let Some(text) = super::query_of(&line) else { continue };
        // Saved line by line, so that two prompts at once lose nothing.
        if editor.add_history_entry(text).unwrap_or(false)
            && let Some(file) = &history
        {
            let _ = editor.append_history(file);
        }
        match text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim())) {
            ("exit" | "quit" | "\\q", "") => break,
            ("help" | "?" | "\\?", "") => println!("{GRAMMAR}"),
            ("explain", query) if !query.is_empty() => match super::explained(at, query).await {
                Ok(told) => print!("{}", super::render::explained(&told)),
                Err(failed) => println!("{}", complaint::text(query, &failed)),
            },
            _ => match super::query(at, text).await {
                Ok(told) => super::print(at, &told),
                Err(failed) => println!("{}", complaint::text(text, &failed)),
            },
        }
    }
    Ok(())
}

/// Where the history is: `REMORA_HISTORY`, else below the state directory. Empty is nowhere.
fn history_file(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    if let Some(file) = variable("REMORA_HISTORY") {
        return (!file.is_empty()).then(|| PathBuf::from(file));
    }
    let state = variable("XDG_STATE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local").join("state")))?;
    Some(state.join("remora").join("rem_history"))
}

/// Completes words.
struct Words;

impl Helper for Words {}
impl Highlighter for Words {}
impl Validator for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completed(line, at))
    }
}

/// Where the word before this byte begins, and what it may become. After IN, FROM and TABLE that is a table.
fn completed(line: &str, at: usize) -> (usize, Vec<String>) {
    let before = line.get(..at).unwrap_or(line);
    let breaks = |(_, letter): &(usize, char)| letter.is_whitespace() || *letter == ',';
    let start = before.char_indices().rev().find(breaks).map_or(0, |(at, letter)| at + letter.len_utf8());
    let word = before.get(start..).unwrap_or_default();
    let last = before.get(..start).unwrap_or_default().trim_end();
    let last_word = last.split_whitespace().next_back().unwrap_or_default().to_ascii_uppercase();
    let wants_table = last.ends_with(',') || matches!(last_word.as_str(), "IN" | "FROM" | "TABLE" | "SQL");
    let fits = |candidate: &&str| {
        candidate.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) && !candidate.is_empty()
    };
    let tables: Vec<&str> = VIEWS.iter().map(|(view, _)| *view).filter(fits).collect();
    let words = KEYWORDS.into_iter().filter(fits);
    let found: Vec<&str> = if wants_table && !tables.is_empty() {
        tables
    } else if word.is_empty() {
        Vec::new()
    } else {
        words.chain(tables).collect()
    };
    let small = word.chars().any(char::is_lowercase);
    let spelt = |candidate: &str| if small { candidate.to_ascii_lowercase() } else { candidate.to_owned() };
    (start, found.into_iter().map(spelt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_keywords_and_after_in_tables() {
        let complete = |line: &str| completed(line, line.len());
        assert_eq!(complete("LOO"), (0, vec!["LOOKUP".to_owned()]));
        assert_eq!(complete("loo"), (0, vec!["lookup".to_owned()]));
        assert_eq!(complete("LOOKUP x IN mo"), (12, vec!["moments".to_owned()]));
        assert_eq!(complete("LOOKUP x IN moments,e").1, ["entities", "edges"]);
        assert_eq!(complete("SELECT * FROM ").1.len(), VIEWS.len());
        assert_eq!(complete("SEARCH é thr"), (10, vec!["threshold".to_owned()]));
        assert_eq!(complete("SEARCH "), (7, vec![]));
        assert_eq!(complete("SEARCH é").1, Vec::<String>::new());
        assert_eq!(complete("SEARCH\u{3000}lim"), (9, vec!["limit".to_owned()]));
    }

    #[test]
    fn the_history_is_below_the_state_directory_or_where_one_says() {
        let file = |pairs: &'static [(&str, &str)]| {
            history_file(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(file(&[("HOME", "/h")]), Some("/h/.local/state/remora/rem_history".into()));
        assert_eq!(file(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s/remora/rem_history".into()));
        assert_eq!(file(&[("HOME", "/h"), ("REMORA_HISTORY", "/x")]), Some("/x".into()));
        assert_eq!(file(&[("HOME", "/h"), ("REMORA_HISTORY", "")]), None);
        assert_eq!(file(&[]), None);
    }
}
