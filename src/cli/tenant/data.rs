//! `remora tenant delete`, `remora tenant reopen` and `remora rotate-master`: on a database, not through the admin plane.
//!
//! Must never print a key, a password or a secret.

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::config::{MasterKey, StoreUrl};
use crate::ids::TenantId;
use crate::transfer::{self, Deleted, Place};

pub(super) const EXAMPLES: &str = "\
This is about a tenant's data, in the database itself; `remora tenant remove` takes the tenant and its keys away and leaves
the data. Nothing may serve from a SQLite database meanwhile: ask the running program, by DELETE /admin/v1/tenants/NAME/data.

Examples:
  remora tenant delete acme --store sqlite://remora.db
  remora tenant reopen acme --store sqlite://remora.db";

pub(in crate::cli) const ROTATE_EXAMPLE: &str = "\
Give all replicas the new master key first, with the old one as previous_master_key. May be interrupted and repeated.

Example:
  remora rotate-master --store sqlite://remora.db --old-file old.key --new-file new.key";

#[derive(Args)]
pub(in crate::cli) struct Which {
    /// The tenant, as in the ledger.
    #[arg(value_name = "NAME")]
    name: String,
    /// Database: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    store: StoreUrl,
}

#[derive(Args)]
pub(in crate::cli) struct RotateMaster {
    /// Database: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    store: StoreUrl,
    /// Environment variable with the old master key.
    #[arg(long, value_name = "NAME", required_unless_present = "old_file", conflicts_with = "old_file")]
    old_env: Option<String>,
    /// File with the old master key.
    #[arg(long, value_name = "FILE")]
    old_file: Option<PathBuf>,
    /// Environment variable with the new master key.
    #[arg(long, value_name = "NAME", required_unless_present = "new_file", conflicts_with = "new_file")]
    new_env: Option<String>,
    /// File with the new master key.
    #[arg(long, value_name = "FILE")]
    new_file: Option<PathBuf>,
}

impl Which {
    pub(super) async fn delete(self) -> Result<(), String> {
        let Self { name, store } = self;
        let done = transfer::delete_tenant(&Place::new(store), &TenantId::new(name.as_str())).await;
        let Deleted { entries, decisions, rem, shredded } = done.map_err(|error| error.to_string())?;
        let key = if shredded { "its data key is shredded" } else { "it had no data key" };
        println!(
            "{name}: {entries} entries, {decisions} decisions and {rem} rows of REM data deleted; {key}. Ledger rows stay."
        );
        Ok(())
    }

    pub(super) async fn reopen(self) -> Result<(), String> {
        let Self { name, store } = self;
        let done = transfer::reopen_tenant(&Place::new(store), &TenantId::new(name.as_str())).await;
        if done.map_err(|error| error.to_string())? {
            println!("{name} gets a new data key when something is stored for it.");
        } else {
            println!("{name} was not shredded; nothing was changed.");
        }
        Ok(())
    }
}

impl RotateMaster {
    pub(in crate::cli) async fn run(self) -> Result<(), String> {
        let old = key("--old", self.old_env, self.old_file)?;
        let new = key("--new", self.new_env, self.new_file)?;
        let done = transfer::rotate_master(&Place::new(self.store), &old, &new).await;
        let done = done.map_err(|error| error.to_string())?;
        println!(
            "{} data keys are wrapped by the new master key now, {} were before; {} are shredded.",
            done.wrapped, done.before, done.shredded
        );
        Ok(())
    }
}

fn key(option: &str, variable: Option<String>, file: Option<PathBuf>) -> Result<MasterKey, String> {
    let text = match (variable, file) {
        (Some(name), _) => {
            std::env::var(&name).map_err(|_| format!("{option}-env: the variable that is named there is not set"))?
        }
        (None, Some(path)) => {
            std::fs::read_to_string(&path).map_err(|error| format!("{option}-file {}: {error}", path.display()))?
        }
        (None, None) => return Err(format!("give {option}-env or {option}-file")),
    };
    let text = Zeroizing::new(text);
    MasterKey::parse(&text)
        .ok_or_else(|| format!("{option}: the key is not 64 hexadecimal digits, nor 32 bytes as base64"))
}
