//! `remora rem`: asks the sidecar of a running proxy, once, again and again, line by line, or at a prompt.
//!
//! Arguments and the order of things; `ask` talks to the sidecar, `render` and `complaint` make texts, `prompt` is the prompt,
//! `import` sends files. It must never print a key.

mod ask;
mod complaint;
mod import;
mod prompt;
mod render;

use std::io::{BufRead, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use self::ask::{Failed, RemAt};
use super::cache::print_json;
use crate::clock::Clock;

pub(super) const EXAMPLES: &str = "\
Queries: LOOKUP name, FUZZY name, SEARCH text, TRAVERSE name, SQL select; `remora rem schema` shows the grammar. The key comes
from REMORA_API_KEY (--key-env, --key-file). A file has one query in each line; blank lines and lines with a # in front are
left out, and a query that fails does not end the others.

Examples:
  remora rem 'LOOKUP \"sarah chen\"'
  remora rem 'SEARCH refunds IN resources LIMIT 5' --json
  remora rem 'SELECT outcome, count(*) FROM requests GROUP BY outcome' --watch 5
  remora rem --file queries.txt
  remora rem

Exit codes: 0 done, 1 a query failed, 2 wrong usage.";

const EXPLAIN: &str = "Example:\n  remora rem explain 'TRAVERSE \"project-plan\" DEPTH 2'";
const SCHEMA: &str = "Example:\n  remora rem schema";
const IMPORT: &str = "\
Markdown (.md, .markdown) and text become resources, long ones in several parts with their order kept. JSON lines (.jsonl,
.ndjson) are one object in each line, of the table that it names in `table` or that --table says; facts are edges:
  {\"table\": \"entities\", \"name\": \"Sarah Chen\", \"kind\": \"person\"}
  {\"table\": \"facts\", \"source\": \"Sarah Chen\", \"type\": \"owns\", \"target\": \"Semantic cache\"}
Importing a file again replaces what it brought.

Example:
  remora rem import notes.md people.jsonl --tag q4";

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Rem {
    #[command(subcommand)]
    command: Option<Command>,
    /// The query, in quotes of the shell.
    query: Option<String>,
    /// Read queries from this file, one in each line; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "query")]
    file: Option<PathBuf>,
    /// Ask again after so many seconds, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", requires = "query", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    #[command(flatten)]
    at: RemAt,
}

#[derive(Subcommand)]
enum Command {
    /// Show how a query is answered: its normal form, its steps, and the statements that may be asked of the database.
    #[command(after_help = EXPLAIN)]
    Explain {
        /// The query, in quotes of the shell.
        query: String,
        #[command(flatten)]
        at: RemAt,
    },
    /// Show tables, columns and the grammar.
    #[command(after_help = SCHEMA)]
    Schema {
        #[command(flatten)]
        at: RemAt,
    },
    /// Bring files in: Markdown, text, or JSON lines.
    #[command(after_help = IMPORT)]
    Import(import::Import),
}

impl Rem {
    pub(super) async fn run(self) -> Result<(), String> {
        match self.command {
            Some(Command::Explain { query, at }) => return explain(&at, &query).await,
            Some(Command::Schema { at }) => return schema(&at).await,
            Some(Command::Import(import)) => return import.run().await,
            None => {}
        }
        let at = self.at;
        if let Some(query) = self.query {
            return match self.watch {
                Some(seconds) => watch(&at, &query, Duration::from_secs(seconds)).await,
                None => one(&at, &query).await,
            };
        }
        match self.file {
            Some(file) if file.as_os_str() != "-" => {
                let file = std::fs::File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                many(&at, std::io::BufReader::new(file)).await
            }
            None if std::io::stdin().is_terminal() => prompt::run(&at).await,
            _ => many(&at, std::io::stdin().lock()).await,
        }
    }
}

async fn query(at: &RemAt, query: &str) -> Result<Value, Failed> {
    ask::ask(at, Method::POST, "/rem/v1/query", Some(&json!({ "query": query }))).await
}

async fn one(at: &RemAt, text: &str) -> Result<(), String> {
    let told = query(at, text).await.map_err(|failed| complaint::text(text, &failed))?;
    print(at, &told);
    Ok(())
}

fn print(at: &RemAt, told: &Value) {
    if at.json {
        print_json(told);
    } else {
        print!("{}", render::answer(told, prompt::width()));
    }
}

async fn watch(at: &RemAt, text: &str, every: Duration) -> Result<(), String> {
    let clear = if std::io::stdout().is_terminal() && !at.json { "\u{1b}[2J\u{1b}[H" } else { "" };
    let clock = Clock::system();
    // One for all rounds: from its first poll on no Ctrl-C is lost, not even while an answer is waited for.
    let mut end = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let told = tokio::select! {
            told = query(at, text) => told,
            _ = &mut end => return Ok(()),
        };
        match told {
            Ok(told) if at.json => println!("{told}"),
            Ok(told) => {
                let now = super::table::time(Some(&json!(clock.now_ms())));
                println!("{clear}{now}  {text}\n");
                print(at, &told);
            }
            // What is wrong with the query stays wrong; a proxy that is away may come back.
            Err(failed) if failed.is_lasting() => return Err(complaint::text(text, &failed)),
            Err(failed) => eprintln!("remora: {}", complaint::text(text, &failed)),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = &mut end => return Ok(()),
        }
    }
}

/// Asks each line; those that fail are told with their numbers.
async fn many(at: &RemAt, lines: impl BufRead) -> Result<(), String> {
    let (mut asked, mut failures) = (0_u64, 0_u64);
    for (number, line) in lines.lines().enumerate() {
        let number = number + 1;
        let line = line.map_err(|error| format!("line {number} cannot be read: {error}"))?;
        let Some(text) = query_of(&line) else { continue };
        asked += 1;
        match query(at, text).await {
            Ok(told) if at.json => println!("{told}"),
            Ok(told) => {
                println!("> {text}");
                print(at, &told);
                println!();
            }
            Err(failed) => {
                if failed.status.is_none() {
                    return Err(format!("line {number}: {}", failed.text));
                }
                failures += 1;
                eprintln!("line {number}: {}", complaint::text(text, &failed));
                if at.json {
                    println!("{}", json!({ "line": number, "query": text, "error": failed.problem }));
                }
            }
        }
    }
    match (failures, asked) {
        (_, 0) => Err("there is no query; give one in each line".to_owned()),
        (0, _) => Ok(()),
        (failures, asked) => Err(format!("{failures} of {asked} queries failed")),
    }
}

/// The query of a line; `None` if it has none.
fn query_of(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches('\u{feff}');
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

async fn explain(at: &RemAt, text: &str) -> Result<(), String> {
    let told = explained(at, text).await.map_err(|failed| complaint::text(text, &failed))?;
    if at.json {
        print_json(&told);
    } else {
        print!("{}", render::explained(&told));
    }
    Ok(())
}

async fn explained(at: &RemAt, text: &str) -> Result<Value, Failed> {
    ask::ask(at, Method::POST, "/rem/v1/explain", Some(&json!({ "query": text }))).await
}

async fn schema(at: &RemAt) -> Result<(), String> {
    let told = ask::ask(at, Method::GET, "/rem/v1/schema", None).await.map_err(|failed| failed.text)?;
    if at.json {
        print_json(&told);
    } else {
        print!("{}", render::schema(&told));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_query_unless_it_is_blank_or_a_comment() {
        assert_eq!(query_of("  LOOKUP x # y \r"), Some("LOOKUP x # y"));
        assert_eq!(query_of("\u{feff}LOOKUP x"), Some("LOOKUP x"));
        assert_eq!((query_of(" # LOOKUP x"), query_of(" \t")), (None, None));
    }
}
