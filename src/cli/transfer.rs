//! `remora copy`, `remora backup` and `remora restore`
//!
//! Arguments, progress and what is printed; the work is in `crate::transfer`. Must never print a password or a secret.

mod display;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Map, Value, json};

use self::display::Display;
use crate::clock::{Clock, UnixMs};
use crate::config::{StoreUrl, parse_duration};
use crate::transfer::{
    self, CopyOptions, CopyReport, Place, RestoreOptions, Side, Table, Tally, TransferError, Verified,
};

pub(super) const COPY_EXAMPLES: &str = "\
A second pass is a catch-up pass: it brings over what came, changed or was deleted since. The source may be in use; the
destination may be its shadow, but nothing may serve from it. After an interruption the same command goes on.

Examples:
  remora copy --from sqlite://remora.db --to postgres://remora@db/remora --verify
  remora copy --from sqlite://remora.db --to postgres://remora@db/remora --since 2h
  remora copy --from sqlite://remora.db --to postgres://remora@db/remora --dry-run --verify

Exit codes: 0 done (and equal), 1 failed or different, 2 wrong usage.";

pub(super) const BACKUP_EXAMPLES: &str = "\
The file contains the secret that keys all hashes, and all answers: keep it as safe as the database. Only its owner can
read it. It restores into SQLite and into PostgreSQL.

Example:
  remora backup remora.backup --from sqlite://remora.db";

pub(super) const RESTORE_EXAMPLES: &str = "\
The whole file is checked before anything is written.

Examples:
  remora restore remora.backup --to sqlite://new.db --dry-run
  remora restore remora.backup --to postgres://remora@db/remora";

#[derive(Args)]
pub(super) struct Copy {
    /// Database to copy from; it is only read.
    #[arg(long, value_name = "URL")]
    from: StoreUrl,
    /// Database to bring up to date; made if it is not there.
    #[arg(long, value_name = "URL")]
    to: StoreUrl,
    /// Compare both sides afterwards, row by row; with --dry-run instead.
    #[arg(long)]
    verify: bool,
    /// Requests, decisions and audit only from this age or time on, as in 2h or 2026-11-26T10:00:00Z.
    #[arg(long, value_name = "AGE|TIME", value_parser = since)]
    since: Option<UnixMs>,
    /// Most rows a second.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Compare the bodies of answers too when looking for differences, not only their lengths.
    #[arg(long)]
    deep: bool,
    /// Write nothing; say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// File with the secret of the source, where it is not in its usual place.
    #[arg(long, value_name = "FILE")]
    from_secret: Option<PathBuf>,
    /// File for the secret of the destination, where it is not to be in its usual place.
    #[arg(long, value_name = "FILE")]
    to_secret: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Backup {
    /// File to write; what is there is replaced when the new one is complete.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Database; it is only read.
    #[arg(long, value_name = "URL")]
    from: StoreUrl,
    /// File with the secret, where it is not in its usual place.
    #[arg(long, value_name = "FILE")]
    from_secret: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Restore {
    /// File that `remora backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Database; made if it is not there.
    #[arg(long, value_name = "URL")]
    to: StoreUrl,
    /// Add to a database that is not empty; what is there stays as it is.
    #[arg(long)]
    merge: bool,
    /// Write nothing: check every byte of the file, and whether the database would take it.
    #[arg(long)]
    dry_run: bool,
    /// File for the secret, where it is not to be in its usual place.
    #[arg(long, value_name = "FILE")]
    to_secret: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl Copy {
    pub(super) async fn run(self) -> Result<(), String> {
        let began = Instant::now();
        let from = Place { url: self.from, secret_file: self.from_secret };
        let to = Place { url: self.to, secret_file: self.to_secret };
        let options = CopyOptions { since: self.since, rate: self.rate, dry_run: self.dry_run, deep: self.deep };
        let verb = if self.dry_run { "comparing" } else { "copying" };
        let display = Display::new(verb);
        let report = unless_stopped(&display, transfer::copy(&from, &to, &options, &display.progress())).await?;
        let copied = began.elapsed();
        let verified = if self.verify {
            let display = Display::new("verifying");
            Some(unless_stopped(&display, transfer::verify(&from, &to, &display.progress())).await?)
        } else {
            None
        };
        if self.json {
            let mut out = json!({
                "from": from.url.to_string(),
                "to": to.url.to_string(),
                "dry_run": self.dry_run,
                "resumed": report.resumed,
                "took_ms": u64::try_from(copied.as_millis()).unwrap_or(u64::MAX),
                "tables": tallies(&report),
            });
            if let (Some(verified), Some(members)) = (&verified, out.as_object_mut()) {
                members.insert("verify".to_owned(), verified_json(verified));
            }
            println!("{out:#}");
        } else {
            print_copy(&report);
            let did = if self.dry_run { "Nothing was written; looked" } else { "Copied" };
            println!("{did} in {:.1} s, {} to {}.", copied.as_secs_f64(), from.url, to.url);
            if let Some(verified) = &verified {
                print_verified(verified);
            }
        }
        match verified {
            Some(verified) if !verified.equal() => Err(String::new()),
            _ => Ok(()),
        }
    }
}

impl Backup {
    pub(super) async fn run(self) -> Result<(), String> {
        let from = Place { url: self.from, secret_file: self.from_secret };
        let display = Display::new("writing");
        let progress = display.progress();
        let report = unless_stopped(&display, transfer::backup(&from, &self.file, &progress)).await?;
        let file = self.file.display().to_string();
        if self.json {
            println!("{:#}", json!({ "file": file, "bytes": report.bytes, "tables": sides(&report.tables) }));
            return Ok(());
        }
        print_sides(&report.tables);
        println!("Wrote {file}, {} bytes. It contains the secret of the database: keep it safe.", report.bytes);
        Ok(())
    }
}

impl Restore {
    pub(super) async fn run(self) -> Result<(), String> {
        let to = Place { url: self.to, secret_file: self.to_secret };
        let options = RestoreOptions { dry_run: self.dry_run, merge: self.merge };
        let display = Display::new("restoring");
        let progress = display.progress();
        let found = unless_stopped(&display, transfer::restore(&self.file, &to, &options, &progress)).await?;
        let file = self.file.display().to_string();
        if self.json {
            let out = json!({
                "file": file,
                "to": to.url.to_string(),
                "dry_run": self.dry_run,
                "program": found.program,
                "source": found.source,
                "made_at": found.made_at,
                "tables": sides(&found.tables),
            });
            println!("{out:#}");
            return Ok(());
        }
        print_sides(&found.tables);
        let did = if self.dry_run { "is whole and would be restored" } else { "was restored" };
        println!("{file} (remora {}, {}) {did} to {}.", found.program, found.source, to.url);
        Ok(())
    }
}

/// Runs it to its end, or until Ctrl-C.
async fn unless_stopped<T>(
    display: &Display,
    work: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, String> {
    let done = tokio::select! {
        done = work => done.map_err(|error| error.to_string()),
        _ = tokio::signal::ctrl_c() => Err("stopped; the same command completes it".to_owned()),
    };
    display.finish();
    done
}

/// An age, as in 2h, or a time, as in 2026-11-26T10:00:00Z.
fn since(text: &str) -> Result<UnixMs, String> {
    if let Some(age) = parse_duration(text) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        return Ok(Clock::system().now_ms().saturating_sub(age));
    }
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "give an age, as in 2h, or a time, as in 2026-11-26T10:00:00Z".to_owned())?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

fn tallies(report: &CopyReport) -> Value {
    let of = |(table, tally): (&Table, &Tally)| {
        let Tally { read, added, changed, deleted, different } = tally;
        let members = json!({
            "read": read, "added": added, "changed": changed, "deleted": deleted, "different": different,
            "took_ms": report.took.get(table).map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        });
        (table.as_str().to_owned(), members)
    };
    Value::Object(report.tables.iter().map(of).collect())
}

fn side(side: &Side) -> Value {
    json!({ "rows": side.rows, "digest": side.digest })
}

fn sides(tables: &BTreeMap<Table, Side>) -> Value {
    Value::Object(tables.iter().map(|(table, of)| (table.as_str().to_owned(), side(of))).collect())
}

fn verified_json(verified: &Verified) -> Value {
    let mut tables = Map::new();
    for table in &verified.tables {
        let members = json!({
            "source": side(&table.source),
            "destination": side(&table.destination),
            "different": table.different,
            "examples": table.examples,
        });
        tables.insert(table.table.as_str().to_owned(), members);
    }
    json!({ "equal": verified.equal(), "secret": verified.secret, "tables": tables })
}

fn print_copy(report: &CopyReport) {
    if report.resumed {
        println!("Went on where an earlier run had stopped.");
    }
    println!("{:9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}", "table", "read", "added", "changed", "deleted", "different");
    for (table, tally) in &report.tables {
        let Tally { read, added, changed, deleted, different } = tally;
        println!("{table:9}  {read:>9}  {added:>9}  {changed:>9}  {deleted:>9}  {different:>9}");
    }
}

fn print_sides(tables: &BTreeMap<Table, Side>) {
    println!("{:9}  {:>9}  digest", "table", "rows");
    for (table, side) in tables {
        println!("{table:9}  {:>9}  {}", side.rows, short(&side.digest));
    }
}

fn print_verified(verified: &Verified) {
    println!(
        "\n{:9}  {:>9}  {:>11}  {:>9}  {:16}  destination",
        "table", "source", "destination", "different", "digest source"
    );
    for table in &verified.tables {
        println!(
            "{:9}  {:>9}  {:>11}  {:>9}  {:16}  {:16}",
            table.table,
            table.source.rows,
            table.destination.rows,
            table.different,
            short(&table.source.digest),
            short(&table.destination.digest),
        );
        for key in &table.examples {
            println!("           differs: {key}");
        }
    }
    if !verified.secret {
        println!("The secrets differ: what is stored on the one side cannot be found on the other.");
    }
    println!("{}", if verified.equal() { "Equal." } else { "Not equal." });
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}
