//! `remora cache …`

use std::io::Read;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::AdminAt;
use super::api::{ask, escape};
use super::explain::{self, Explain};
use super::invalidate::{self, Invalidate};
use super::learning::{self, Decisions, Feedback, Learners, Shadow};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Entries, bytes and vectors.
    Stats(AdminAt),
    /// List entries, newest first.
    Entries(Entries),
    /// Find entries by a text in their prompts.
    #[command(after_help = "Example:\n  remora cache search refund")]
    Search(Search),
    /// Tell what would happen to a request, and why.
    #[command(after_help = explain::EXAMPLES)]
    Explain(Explain),
    /// Remove entries. Shows what it would remove with --dry-run.
    #[command(after_help = invalidate::EXAMPLES)]
    Invalidate(Box<Invalidate>),
    /// Say that the answer to a request was wrong, or right.
    #[command(after_help = learning::FEEDBACK_EXAMPLES)]
    Feedback(Feedback),
    /// Show what has been learnt of each tenant's traffic on each model.
    #[command(after_help = learning::LEARNERS_EXAMPLES)]
    Learners(Learners),
    /// Report what the semantic tier would have served while it only watched, and how much of it was right.
    #[command(after_help = learning::SHADOW_EXAMPLES)]
    Shadow(Shadow),
    /// List decisions of the semantic tier, or show the one about a request.
    #[command(after_help = learning::DECISIONS_EXAMPLES)]
    Decisions(Decisions),
}

#[derive(Args)]
pub(super) struct Entries {
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    namespace: Option<String>,
    /// As `name=value`.
    #[arg(long)]
    tag: Option<String>,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Search {
    /// Text that the prompt contains.
    text: String,
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::Stats(at) => {
                let stats = ask(&at, Method::GET, "/admin/v1/cache/stats", None).await?;
                print_members(&stats, at.json);
            }
            Self::Entries(entries) => entries.run().await?,
            Self::Search(search) => search.run().await?,
            Self::Explain(explain) => explain.run().await?,
            Self::Invalidate(invalidate) => invalidate.run().await?,
            Self::Feedback(feedback) => feedback.run().await?,
            Self::Learners(learners) => learners.run().await?,
            Self::Shadow(shadow) => shadow.run().await?,
            Self::Decisions(decisions) => decisions.run().await?,
        }
        Ok(())
    }
}

impl Entries {
    async fn run(self) -> Result<(), String> {
        let query = query(&[
            ("tenant", self.tenant),
            ("model", self.model),
            ("namespace", self.namespace),
            ("tag", self.tag),
            ("limit", Some(self.limit.to_string())),
        ]);
        let found = ask(&self.at, Method::GET, &format!("/admin/v1/cache/entries{query}"), None).await?;
        print_rows(&found, &["entry", "tenant", "model", "dialect", "bytes", "prompts"], self.at.json);
        Ok(())
    }
}

impl Search {
    async fn run(self) -> Result<(), String> {
        let query = query(&[("q", Some(self.text)), ("tenant", self.tenant), ("limit", Some(self.limit.to_string()))]);
        let found = ask(&self.at, Method::GET, &format!("/admin/v1/cache/search{query}"), None).await?;
        print_rows(&found, &["entry", "tenant", "model", "prompt"], self.at.json);
        Ok(())
    }
}

pub(super) fn read(path: &std::path::Path) -> Result<String, String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_deref()?))));
    let joined = given.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

pub(super) fn print_json(value: &Value) {
    println!("{value:#}");
}

/// One member a line; JSON where it is nested.
pub(super) fn print_members(value: &Value, as_json: bool) {
    let Some(members) = value.as_object().filter(|_| !as_json) else { return print_json(value) };
    let width = members.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in members {
        println!("{name:width$}  {}", cell(value));
    }
}

/// A table of the rows in `data`.
pub(super) fn print_rows(answer: &Value, columns: &[&str], as_json: bool) {
    if as_json {
        return print_json(answer);
    }
    let rows = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|name| row.get(name).map(cell).unwrap_or_default()).collect())
        .collect();
    let width = |i: usize, name: &str| {
        cells.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).chain([name.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(i, name)| width(i, name)).collect();
    let line = |row: &[String]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(&columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    cells.iter().for_each(|row| line(row));
}

pub(super) fn cell(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
