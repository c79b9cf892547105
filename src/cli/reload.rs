//! `remora reload`

use clap::Args;
use http::Method;

use super::AdminAt;
use super::api::ask;
use super::cache::print_members;

pub(super) const EXAMPLE: &str = "\
An invalid configuration is refused as a whole, with every problem, and nothing changes. SIGHUP does the same.

Example:
  remora check --config remora.toml && remora reload";

#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    at: AdminAt,
}

impl Reload {
    pub(super) async fn run(self) -> Result<(), String> {
        let Self { at } = self;
        let told = ask(&at, Method::POST, "/admin/v1/reload", None).await?;
        print_members(&told, at.json);
        Ok(())
    }
}
