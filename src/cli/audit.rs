//! `remora audit`

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::AdminAt;
use super::api::ask;
use super::cache::{print_json, print_rows, query};
use super::table::text;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List what was changed through the admin plane, newest first.
    #[command(after_help = "Example:\n  remora audit list --limit 5")]
    List(List),
    /// Prove that no row of the audit was changed, removed or put in. Fails if one was.
    #[command(after_help = VERIFY)]
    Verify(AdminAt),
}

const VERIFY: &str = "\
Each row holds a hash over itself and the row before. Keep the head that is printed: whoever can rewrite the whole database
can rewrite all hashes, but not a head that is kept elsewhere.

Example:
  remora audit verify";

#[derive(Args)]
pub(super) struct List {
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only rows before this one: `next_cursor` of an answer with --json, or an id.
    #[arg(long, value_name = "ID")]
    cursor: Option<String>,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::List(List { limit, cursor, at }) => {
                let query = query(&[("limit", Some(limit.to_string())), ("cursor", cursor)]);
                let rows = ask(&at, Method::GET, &format!("/admin/v1/audit{query}"), None).await?;
                print_rows(&rows, &["id", "actor", "action", "what", "result", "reason"], at.json);
                Ok(())
            }
            Self::Verify(at) => {
                let told = ask(&at, Method::GET, "/admin/v1/audit/verify", None).await?;
                let whole = told.get("ok") == Some(&Value::Bool(true));
                let rows = text(&told, "rows");
                if at.json {
                    print_json(&told);
                } else if whole {
                    println!("The audit is whole: {rows} rows.\nhead  {}", text(&told, "head"));
                }
                match whole {
                    true => Ok(()),
                    false if told.get("broken_at").is_none_or(Value::is_null) => {
                        Err(format!("the audit is not whole: {}", text(&told, "why")))
                    }
                    false => {
                        Err(format!("the audit is broken at row {}: {}", text(&told, "broken_at"), text(&told, "why")))
                    }
                }
            }
        }
    }
}
