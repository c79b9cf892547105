//! `remora cache invalidate`: all that can be asked of the admin API, and a question before anything is removed by hand.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::AdminAt;
use super::api::ask;
use super::cache::{print_members, print_rows};
use crate::config::parse_duration;

const PATH: &str = "/admin/v1/cache/invalidate";

/// Examples at the end of `--help`.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    remora cache invalidate --model gpt-4o --dry-run\n  \
    remora cache invalidate --near \"refund policy\" --radius 0.75\n  \
    remora cache invalidate --tag release=42 --older-than 30d --yes --reason \"prices changed\"\n\n\
    All that is given must hold. An answer that one matching prompt leads to is removed with all its prompts. On a \
    terminal the selection is shown and a question asked, unless there is --yes; where standard input is no terminal it \
    is removed without a question.";

#[derive(Args)]
pub(super) struct Invalidate {
    #[arg(long)]
    tenant: Option<String>,
    /// Entry id: the answer with all prompts that lead to it.
    #[arg(long, visible_alias = "group")]
    id: Option<String>,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    namespace: Option<String>,
    /// As `name=value`; may be given several times, all must hold.
    #[arg(long)]
    tag: Vec<String>,
    /// Key id whose requests made the entries.
    #[arg(long)]
    writer: Option<String>,
    /// `chat`, `completions` or `embeddings`.
    #[arg(long)]
    dialect: Option<String>,
    /// `semantic`: entries that similar requests can find; `exact`: those that only equal ones can.
    #[arg(long)]
    tier: Option<String>,
    /// At least this old, as in 30d, 12h, 90s or plain seconds.
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    older_than: Option<u64>,
    /// Less than this old.
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    younger_than: Option<u64>,
    /// A stored prompt contains this, in upper or lower case.
    #[arg(long)]
    text: Option<String>,
    /// The stored answer contains this, in upper or lower case.
    #[arg(long, value_name = "TEXT")]
    answer_text: Option<String>,
    /// A stored prompt is near this text.
    #[arg(long, value_name = "TEXT")]
    near: Option<String>,
    /// How near: the least cosine, above 0 and up to 1 [default: 0.8].
    #[arg(long, value_name = "COSINE")]
    radius: Option<f64>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Remove nothing; show counts and examples.
    #[arg(long)]
    dry_run: bool,
    /// Examples of a dry run [default: 5, at most 100].
    #[arg(long, value_name = "N")]
    examples: Option<usize>,
    /// Plan of a dry run; a warning is shown if it does not hold any more.
    #[arg(long, value_name = "PLAN")]
    expect: Option<String>,
    /// Number of entries of a dry run; if it has changed, nothing is removed.
    #[arg(long, value_name = "N")]
    expect_count: Option<u64>,
    /// Why; kept in the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Ask no question.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    at: AdminAt,
}

impl Invalidate {
    pub(super) async fn run(mut self) -> Result<(), String> {
        if self.dry_run {
            let planned = self.send(true).await?;
            show(&planned, self.at.json);
            return Ok(());
        }
        if !self.yes && std::io::stdin().is_terminal() && !self.agreed().await? {
            return Ok(());
        }
        let told = self.send(false).await?;
        if let Some(warning) = told.get("warning").and_then(Value::as_str) {
            eprintln!("remora: {warning}");
        }
        print_members(&told, self.at.json);
        Ok(())
    }

    /// Shows the dry run and asks. What was shown is then what is expected.
    async fn agreed(&mut self) -> Result<bool, String> {
        let planned = self.send(true).await?;
        if !self.at.json {
            show(&planned, false);
        }
        let count = planned.get("would_remove").and_then(Value::as_u64).unwrap_or_default();
        if count == 0 {
            eprint!("No live entry is selected. Remove what only the store may still hold? [y/N] ");
        } else {
            eprint!("Remove {count} entries? [y/N] ");
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
        if !is_yes(&line) {
            eprintln!("Nothing was removed.");
            return Ok(false);
        }
        self.expect_count.get_or_insert(count);
        let plan = planned.get("plan").and_then(Value::as_str).map(str::to_owned);
        self.expect = self.expect.take().or(plan);
        Ok(true)
    }

    async fn send(&self, dry_run: bool) -> Result<Value, String> {
        let mut request = json!({
            "tenant": self.tenant, "id": self.id, "model": self.model, "namespace": self.namespace, "tag": self.tag,
            "writer": self.writer, "dialect": self.dialect, "tier": self.tier, "older_than_s": self.older_than,
            "younger_than_s": self.younger_than, "text": self.text, "answer_text": self.answer_text,
            "near": self.near, "radius": self.radius, "all": self.all, "dry_run": dry_run, "examples": self.examples,
            "expect": self.expect, "expect_count": self.expect_count, "reason": self.reason,
        });
        if let Some(members) = request.as_object_mut() {
            members.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        ask(&self.at, Method::POST, PATH, Some(&request)).await
    }
}

/// Counts, then the examples as a table.
fn show(planned: &Value, as_json: bool) {
    if as_json {
        return print_members(planned, true);
    }
    let mut counts = planned.clone();
    let examples = counts.as_object_mut().and_then(|members| members.shift_remove("examples")).unwrap_or_default();
    print_members(&counts, false);
    let Some(rows) = examples.as_array().filter(|rows| !rows.is_empty()) else { return };
    println!();
    let mut columns = vec!["entry", "tenant", "model", "age_s", "prompts"];
    if rows.iter().any(|row| row.get("cosine").is_some()) {
        columns.insert(0, "cosine");
    }
    print_rows(&json!({ "data": rows }), &columns, false);
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// An age as in `30d` or `12h`; a plain number is seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let parsed = parse_duration(text).filter(|age| age.subsec_millis() == 0);
    parsed.map(|age| age.as_secs()).ok_or_else(|| "give whole seconds, or a number with s, m, h or d, as in 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_seconds_or_a_number_with_a_unit() {
        let day = 24 * 3_600;
        for (text, expected) in [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("12h", day / 2), ("30d", 30 * day)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "x", "-1", "1.5h", "1500ms", "3 weeks", "99999999999999999999d"] {
            assert!(seconds(wrong).unwrap_err().contains("30d"), "{wrong}");
        }
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y", "Y\n", "yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "yess", "ja"].into_iter().any(is_yes));
    }
}
