//! `remora migrate`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::{BadStoreUrl, StoreUrl};
use crate::store::StoreError;
use crate::store::migrate::{self, Planned};

#[derive(Args)]
pub(super) struct Migrate {
    #[command(subcommand)]
    action: Action,
    /// Database: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", default_value = "sqlite://remora.db", global = true)]
    store: String,
}

#[derive(Subcommand)]
enum Action {
    /// Show the schema version of the database and of this program.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the SQL of the steps that a migration would take; nothing is changed.
    Plan {
        /// Version to go to, up or down; the newest of this program if not given.
        #[arg(long, value_name = "N")]
        to: Option<u32>,
    },
    /// Bring the schema up to date.
    Up {
        /// Version to go to; the newest of this program if not given.
        #[arg(long, value_name = "N")]
        to: Option<u32>,
    },
    /// Take the schema back to an older version; all data is kept.
    Down {
        /// Version to go back to.
        #[arg(long, value_name = "N")]
        to: u32,
    },
}

impl Migrate {
    pub(super) async fn run(self) -> Result<(), String> {
        let url: StoreUrl = self.store.parse().map_err(|bad: BadStoreUrl| format!("--store: {bad}"))?;
        act(&url, self.action).await.map_err(|error| error.to_string())
    }
}

async fn act(url: &StoreUrl, action: Action) -> Result<(), StoreError> {
    let steps = match action {
        Action::Status { json } => return show(url, json).await,
        Action::Plan { to } => {
            let plan = migrate::plan(url, to).await?;
            plan.iter().for_each(print);
            if plan.is_empty() {
                println!("-- Nothing to do.");
            }
            return Ok(());
        }
        Action::Up { to } => migrate::up(url, to).await?,
        Action::Down { to } => migrate::down(url, to).await?,
    };
    for step in &steps {
        println!("{step}: done");
    }
    if steps.is_empty() {
        println!("Nothing to do.");
    }
    Ok(())
}

async fn show(url: &StoreUrl, as_json: bool) -> Result<(), StoreError> {
    let status = migrate::status(url).await?;
    if as_json {
        println!("{}", json!({ "current": status.current, "latest": status.latest, "pending": status.pending }));
        return Ok(());
    }
    println!("database: schema {}\nprogram:  schema {}", status.current, status.latest);
    for step in &status.pending {
        println!("pending:  {step}");
    }
    Ok(())
}

fn print(step: &Planned) {
    println!("-- {} {}: {}\n{}", step.way.as_str(), step.version, step.name, step.sql);
}

/// The file of a SQLite URL.
pub(super) fn path(url: &str) -> Result<PathBuf, String> {
    match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("--store: give sqlite://PATH; other databases are not read here".to_owned()),
    }
}
