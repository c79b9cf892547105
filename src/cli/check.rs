//! `remora check`

use std::path::{Path, PathBuf};

use clap::Args;

use super::serve::Flags;
use crate::config::{Config, check_report};

#[derive(Args)]
pub(super) struct Check {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration, without secrets.
    #[arg(long)]
    print: bool,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Check {
    pub(super) fn run(self) -> Result<(), String> {
        let loaded = Config::load(self.config.as_deref(), environment(), &self.flags.overrides());
        match loaded {
            Ok(config) if self.print => print!("{}", config.render()),
            Ok(_) if self.json => println!("[]"),
            Ok(_) => println!("The configuration is valid."),
            Err(problems) if self.json => {
                println!("{}", problems.to_json());
                return Err(String::new());
            }
            Err(problems) => return Err(check_report(&problems)),
        }
        Ok(())
    }
}

/// Loads the configuration, or tells every problem of it.
pub(super) fn load(path: Option<&Path>, flags: &Flags) -> Result<Config, String> {
    Config::load(path, environment(), &flags.overrides()).map_err(|problems| check_report(&problems))
}

/// The environment, without what is not UTF-8.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
