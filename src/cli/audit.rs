//! `remora audit`

use clap::{Args, Subcommand};
use http::Method;

use super::AdminAt;
use super::api::ask;
use super::cache::{print_rows, query};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List what was changed through the admin plane, newest first.
    #[command(after_help = "Example:\n  remora audit list --limit 5")]
    List(List),
}

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
        let Self::List(List { limit, cursor, at }) = self;
        let query = query(&[("limit", Some(limit.to_string())), ("cursor", cursor)]);
        let rows = ask(&at, Method::GET, &format!("/admin/v1/audit{query}"), None).await?;
        print_rows(&rows, &["id", "actor", "action", "what", "result", "reason"], at.json);
        Ok(())
    }
}
