//! `remora prices`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::AdminAt;
use super::api::ask;
use super::cache::print_json;
use super::check::load;
use super::serve::Flags;
use super::table::{Table, none};
use crate::clock::Clock;
use crate::config::{Config, EmbeddingKind, NanoUsd};
use crate::price::{self, Finding, Imported, Listing, PriceBook, day_ms};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what models cost, in dollars for a million tokens.
    #[command(after_help = LIST)]
    List(List),
    /// Look for what is wrong in a price list, and for models in use that have no price.
    #[command(after_help = CHECK)]
    Check(CheckList),
    /// Make a price list from LiteLLM's `model_prices_and_context_window.json`.
    #[command(after_help = IMPORT)]
    Import(Import),
    /// Price the ledger of a running proxy anew. Rows stay as they are; corrections are put beside them.
    #[command(after_help = RERATE)]
    Rerate(Rerate),
}

const LIST: &str = "\
A name shows what is charged for that model, a pattern with `*` the entries with a name that fits. --json shows all kinds of tokens,
tiers of size and of service.

Examples:
  remora prices list gpt-4o-mini-2024-07-18
  remora prices list 'claude-*' --at 2026-10-01
  remora prices list --config remora.toml --json";

const CHECK: &str = "\
Without FILE it checks the file of `[prices] file`, or the list that comes with the program. Models in use are those of
`[telemetry] models`, of `models` of declared keys, and of the embedder. Fails if something must be mended.

Examples:
  remora prices check prices.json
  remora prices check --config remora.toml";

const IMPORT: &str = "\
Prices of zero are left out, because they may mean unknown; so is what is not billed by tokens.

Example:
  remora prices import model_prices_and_context_window.json --out prices.json";

const RERATE: &str = "\
Each row is priced as of when it began, by the prices that the proxy knows now (`remora reload` reads them again). What has no price
stays as it is. Look at a dry run first.

Examples:
  remora prices rerate --from 2026-11-01 --dry-run
  remora prices rerate --from 2026-11-01 --until 2026-11-15 --tenant acme --model 'gpt-5*' --reason 'price was wrong'";

#[derive(Args)]
pub(super) struct List {
    /// A model, or a pattern of names.
    #[arg(value_name = "MODEL-GLOB")]
    model: Option<String>,
    /// The prices of this day in UTC instead of now.
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// Configuration file that names a price list.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args)]
pub(super) struct CheckList {
    /// The price list.
    file: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args)]
pub(super) struct Import {
    /// LiteLLM's list.
    #[arg(value_name = "LITELLM.json")]
    from: PathBuf,
    /// Where to write ours.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// What the ledger calls the list, at most 64 bytes.
    #[arg(long, value_name = "TEXT", default_value = "litellm")]
    version: String,
    /// Print what was left out as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Rerate {
    /// First day, in UTC.
    #[arg(long, value_name = "DATE")]
    from: String,
    /// The day after the last one. Usually all rows until now.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// Only rows of this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only requests for models that match.
    #[arg(long, value_name = "GLOB")]
    model: Option<String>,
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: AdminAt,
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::List(list) => list.run(),
            Self::Check(check) => check.run(),
            Self::Import(import) => import.run(),
            Self::Rerate(rerate) => rerate.run().await,
        }
    }
}

impl List {
    fn run(self) -> Result<(), String> {
        let Self { model, at, config, json, flags } = self;
        let at = match at {
            Some(day) => day_ms(&day).ok_or("--at must be a day in UTC, as in 2026-10-01")?,
            None => Clock::system().now_ms(),
        };
        let file = load(config.as_deref(), &flags)?.prices.file;
        let book = PriceBook::load(file.as_deref()).map_err(|error| error.to_string())?;
        let found = book.list(model.as_deref(), at);
        if json {
            let prices: Vec<Value> = found.iter().map(Listing::json).collect();
            print_json(&json!({ "version": book.version().as_ref(), "prices": prices }));
        } else if found.is_empty() {
            println!("No price fits; a model without one is unpriced. `[prices] file` adds prices.");
        } else {
            print!("{}", table(&found));
        }
        Ok(())
    }
}

fn table(found: &[Listing]) -> String {
    let head = ["model", "provider", "input", "cached", "written", "output", "longest", "version"];
    let mut table = Table::new(&head);
    for Listing { provider, names, price, .. } in found {
        let rates = price.rates();
        let mut row = vec![names.first().cloned().unwrap_or_default(), provider.clone().unwrap_or_else(none)];
        row.extend(
            [rates.input(), rates.cache_read(), rates.cache_write(), rates.output()].map(|price| price.to_string()),
        );
        row.push(price.max_output.map_or_else(none, |longest| longest.to_string()));
        row.push(price.version.to_string());
        table.row(row);
    }
    table.text()
}

impl CheckList {
    fn run(self) -> Result<(), String> {
        let Self { file, config, json, flags } = self;
        let config = load(config.as_deref(), &flags)?;
        let file = file.or_else(|| config.prices.file.clone());
        let found = price::check(file.as_deref(), &used(&config), Clock::system().now_ms());
        let found = found.map_err(|error| error.to_string())?;
        let errors = found.iter().filter(|finding| finding.error).count();
        if json {
            print_json(&json!(found));
        } else {
            for Finding { error, place, what } in &found {
                println!("{}: {place}: {what}", if *error { "error" } else { "warning" });
            }
            let list = file.as_deref().map_or("the shipped price list".to_owned(), |file| file.display().to_string());
            println!("{list}: {errors} errors, {} warnings", found.len() - errors);
        }
        if errors > 0 { Err(String::new()) } else { Ok(()) }
    }
}

/// Models that the configuration names.
fn used(config: &Config) -> Vec<String> {
    let mut models = config.telemetry.models.clone();
    let keys = config.tenants.iter().flat_map(|tenant| &tenant.keys);
    models.extend(keys.flat_map(|key| &key.spec.models).filter(|glob| *glob != "*").cloned());
    if let EmbeddingKind::OpenAi { model, .. } = &config.embedding.kind {
        models.push(model.clone());
    }
    models.sort();
    models.dedup();
    models
}

impl Import {
    fn run(self) -> Result<(), String> {
        let Self { from, out, force, version, json } = self;
        let told = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| format!("{path}: {error}")
        };
        if version.is_empty() || version.len() > 64 {
            return Err("--version must have 1 to 64 bytes: it is in every row of the ledger".to_owned());
        }
        if !force && out.symlink_metadata().is_ok() {
            return Err(format!("{} is there already; --force replaces it", out.display()));
        }
        let text = std::fs::read_to_string(&from).map_err(told(&from))?;
        let imported = price::import(&text, &version).map_err(|error| format!("{}: {error}", from.display()))?;
        // Aside first: a proxy that reads its list again must never find half of one.
        let mut beside = out.clone().into_os_string();
        beside.push(format!(".part-{}", std::process::id()));
        let written = std::fs::write(&beside, &imported.text).and_then(|()| std::fs::rename(&beside, &out));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&beside);
            return Err(told(&out)(error));
        }
        let Imported { text: _, models, skipped, unread, rounded } = imported;
        if json {
            print_json(&json!({ "models": models, "skipped": skipped, "unread": unread, "rounded": rounded }));
            return Ok(());
        }
        println!("{models} models are in {}.", out.display());
        for (reason, count) in &skipped {
            println!("left out  {count:>5}  {reason}");
        }
        for (name, count) in &unread {
            println!("not read  {count:>5}  {name}");
        }
        if rounded > 0 {
            println!("{rounded} prices are finer than a nano-dollar for a million tokens and were rounded.");
        }
        println!("`remora prices check {}` looks for mistakes.", out.display());
        Ok(())
    }
}

/// What the admin API sums up, part by part.
const SUMS: [&str; 4] = ["cost", "embedding", "saved_gross", "saved_net"];

impl Rerate {
    async fn run(self) -> Result<(), String> {
        let Self { from, until, tenant, model, reason, dry_run, at } = self;
        let mut question = json!({
            "from": from, "until": until, "tenant": tenant, "model": model, "reason": reason, "dry_run": dry_run,
        });
        let (mut rows, mut changed, mut left_out) = (0, 0, 0);
        let mut sums = [[NanoUsd(0); SUMS.len()]; 2];
        let mut unpriced = [0; 2];
        loop {
            let answer = ask(&at, Method::POST, "/admin/v1/prices/rerate", Some(&question)).await?;
            let count = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
            rows += count(&answer, "rows");
            changed += count(&answer, "changed");
            left_out += count(&answer, "left_out");
            for (side, (sums, unpriced)) in ["before", "after"].iter().zip(sums.iter_mut().zip(&mut unpriced)) {
                let part = answer.get(*side).cloned().unwrap_or_default();
                *unpriced += count(&part, "unpriced");
                for (name, sum) in SUMS.iter().zip(sums) {
                    *sum = sum.plus(signed(part.get(*name)).ok_or_else(|| format!("the answer has no {side}.{name}"))?);
                }
            }
            match answer.get("next").and_then(Value::as_str) {
                Some(next) => {
                    if let Some(members) = question.as_object_mut() {
                        members.insert("after".to_owned(), next.into());
                    }
                }
                None => break,
            }
        }
        let [before, after] = sums;
        let [unpriced_before, unpriced_after] = unpriced;
        if at.json {
            let side = |sums: [NanoUsd; SUMS.len()], unpriced: u64| {
                let mut side: serde_json::Map<String, Value> =
                    SUMS.iter().zip(sums).map(|(name, sum)| ((*name).to_owned(), json!(sum))).collect();
                side.insert("unpriced".to_owned(), unpriced.into());
                side
            };
            let (before, after) = (side(before, unpriced_before), side(after, unpriced_after));
            print_json(
                &json!({ "dry_run": dry_run, "rows": rows, "changed": changed, "left_out": left_out, "before": before, "after": after }),
            );
            return Ok(());
        }
        let verb = if dry_run { "would be corrected" } else { "are corrected" };
        println!("{changed} of {rows} rows {verb}.\n");
        if left_out > 0 {
            println!(
                "{left_out} rows were corrected by somebody else meanwhile and left as they are; run this again to look at them.\n"
            );
        }
        let mut table = Table::new(&["usd", "before", "after"]);
        for (name, (before, after)) in SUMS.iter().zip(before.iter().zip(after)) {
            table.row(vec![name.replace('_', " "), before.to_string(), after.to_string()]);
        }
        table.row(vec!["rows without a price".to_owned(), unpriced_before.to_string(), unpriced_after.to_string()]);
        print!("{}", table.text());
        Ok(())
    }
}

/// An amount that may be below zero.
fn signed(value: Option<&Value>) -> Option<NanoUsd> {
    let text = value?.as_str()?;
    match text.strip_prefix('-') {
        Some(text) => text.parse().ok().map(|NanoUsd(amount)| NanoUsd(-amount)),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_shown_as_people_read_it() {
        let book = PriceBook::load(None).unwrap();
        let shown = table(&book.list(Some("gpt-4o-mini-2024-07-18"), 0));
        let line = shown.lines().nth(1).unwrap();
        assert!(line.starts_with("gpt-4o-mini  openai    0.15   0.075   0.15     0.60    16384    "), "{shown}");
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn a_list_that_is_there_is_replaced_only_if_that_is_meant_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, out) = (dir.path().join("litellm.json"), dir.path().join("prices.json"));
        std::fs::write(&from, include_str!("../../tests/data/litellm_prices.json")).unwrap();
        std::fs::write(&out, "mine").unwrap();
        let import =
            |force| Import { from: from.clone(), out: out.clone(), force, version: "v".to_owned(), json: true };
        let refused = import(false).run().unwrap_err();
        assert!(refused.contains("--force"), "{refused}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
        import(true).run().unwrap();
        assert!(PriceBook::load(Some(&out)).is_ok());
        assert_eq!(dir.path().read_dir().unwrap().count(), 2);
        std::fs::remove_file(&out).unwrap();
        import(false).run().unwrap();
        assert!(out.exists());
    }

    #[test]
    fn amounts_below_zero_are_read_too() {
        assert_eq!(signed(Some(&json!("-1.50"))), Some(NanoUsd(-1_500_000_000)));
        assert_eq!((signed(Some(&json!("--1"))), signed(Some(&json!(1))), signed(None)), (None, None, None));
    }
}
