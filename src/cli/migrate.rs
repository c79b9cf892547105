//! `remora migrate`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::store::sqlite::{migrate_down, migrate_up, status};

#[derive(Args)]
pub(super) struct Migrate {
    #[command(subcommand)]
    action: Action,
    /// Database.
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
    /// Bring the schema up to date.
    Up,
    /// Take the schema back to an older version; all data is kept.
    Down {
        /// Version to go back to.
        #[arg(long, value_name = "N")]
        to: u32,
    },
}

impl Migrate {
    pub(super) async fn run(self) -> Result<(), String> {
        let path = path(&self.store)?;
        let steps = match self.action {
            Action::Status { json } => return show(&path, json).await,
            Action::Up => migrate_up(&path).await,
            Action::Down { to } => migrate_down(&path, to).await,
        };
        let steps = steps.map_err(|error| error.to_string())?;
        for step in &steps {
            println!("{step}: done");
        }
        if steps.is_empty() {
            println!("Nothing to do.");
        }
        Ok(())
    }
}

async fn show(path: &Path, as_json: bool) -> Result<(), String> {
    let status = status(path).await.map_err(|error| error.to_string())?;
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

pub(super) fn path(url: &str) -> Result<PathBuf, String> {
    match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(format!("--store {url}: give sqlite://PATH; other databases are not part of this version")),
    }
}
