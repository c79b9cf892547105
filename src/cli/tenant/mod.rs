//! `remora tenant`: tenants of a running proxy, through its admin API; and what becomes of a tenant's data.

mod apply;
mod data;
mod view;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use self::apply::Apply;
pub(super) use self::data::{ROTATE_EXAMPLE, RotateMaster};
pub(super) use self::view::{key as key_text, keys as keys_text};
use super::AdminAt;
use super::api::{Refusal, ask, list, tenant_path, try_to};
use super::cache::print_json;
use super::terms::{self, BudgetArgs, LimitArgs, PolicyArgs};
use crate::config::Budget;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a tenant. It cannot call before it has a key: `remora key create`.
    #[command(after_help = create_help())]
    Create(Box<Create>),
    /// List all tenants.
    #[command(after_help = "Example:\n  remora tenant list")]
    List(AdminAt),
    /// Show a tenant with its limits, budgets and keys.
    #[command(after_help = "Example:\n  remora tenant show acme")]
    Show(Named),
    /// Change limits, budgets or cache policy of a tenant. What is not given stays.
    #[command(after_help = set_help())]
    Set(Box<Set>),
    /// Accept the keys of a tenant again.
    #[command(after_help = "Example:\n  remora tenant enable acme")]
    Enable(Named),
    /// Refuse all keys of a tenant until it is enabled; they and everything else stay.
    #[command(after_help = "Example:\n  remora tenant disable acme")]
    Disable(Named),
    /// Take a tenant away, and its keys with it. Its stored answers and ledger rows stay.
    #[command(after_help = REMOVE)]
    Remove(Named),
    /// Set or remove the credential that is sent upstream for a tenant, in the place of the shared one.
    #[command(subcommand)]
    UpstreamKey(UpstreamKey),
    /// Make and change many tenants with their keys, as a file says.
    #[command(after_help = apply::EXAMPLES)]
    Apply(Apply),
    /// Delete answers, prompts, vectors, decisions and what was learnt of a tenant, and shred its data key for good.
    #[command(after_help = data::EXAMPLES)]
    Delete(data::Which),
    /// Let a tenant whose data key was shredded be cached again, under a new key.
    #[command(after_help = data::EXAMPLES)]
    Reopen(data::Which),
}

const REMOVE: &str = "\
`remora tenant delete` is about the data: it deletes what is stored of a tenant, and leaves its keys.

Example:
  remora tenant remove acme";

#[derive(Subcommand)]
pub(super) enum UpstreamKey {
    /// Send this credential upstream for the tenant. It is kept sealed and never shown.
    #[command(after_help = "Example:\n  remora tenant upstream-key set acme --env ACME_OPENAI_KEY")]
    Set(SetUpstreamKey),
    /// Send the shared credential again.
    #[command(after_help = "Example:\n  remora tenant upstream-key remove acme")]
    Remove(Named),
}

#[derive(Args)]
pub(super) struct Named {
    /// The tenant's name.
    name: String,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Create {
    /// Unique name: 1 to 64 letters, digits, dots, dashes or underscores.
    name: String,
    #[command(flatten)]
    terms: Terms,
    /// Environment variable with the tenant's own upstream credential.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "upstream_key_file")]
    upstream_key_env: Option<String>,
    /// File with the tenant's own upstream credential.
    #[arg(long, value_name = "FILE")]
    upstream_key_file: Option<PathBuf>,
    /// Take over answers, ledger rows and spend that a tenant of this name has left; without it they are a reason to refuse.
    #[arg(long)]
    adopt_data: bool,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args)]
pub(super) struct Set {
    /// The tenant's name.
    name: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Args, Clone)]
struct Terms {
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    budgets: BudgetArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Args)]
pub(super) struct SetUpstreamKey {
    /// The tenant's name.
    name: String,
    /// Environment variable with the credential.
    #[arg(long, value_name = "VARIABLE", required_unless_present = "file", conflicts_with = "file")]
    env: Option<String>,
    /// File with the credential.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    at: AdminAt,
}

fn create_help() -> String {
    let examples = "\
Examples:
  remora tenant create acme --rpm 600 --tpm 200_000 --budget month=500
  remora tenant create globex --budget day=20,soft --budget 'month:gpt-4o*=100' --upstream-key-env GLOBEX_OPENAI_KEY";
    format!("{}\n\n{examples}", terms::BUDGETS)
}

fn set_help() -> String {
    let examples = "\
Examples:
  remora tenant set acme --rpm 1200 --tpd none
  remora tenant set acme --budget month=800 --budget 'day:gpt-4o*=50,alert=80/100' --no-budget week
  remora tenant set acme --cache exact --ttl 1h";
    format!("{}\n\n{examples}", terms::BUDGETS)
}

impl Command {
    pub(super) async fn run(self) -> Result<(), String> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(at) => all(&at).await,
            Self::Show(named) => named.show().await,
            Self::Set(set) => set.run().await,
            Self::Enable(named) => named.switch(true).await,
            Self::Disable(named) => named.switch(false).await,
            Self::Remove(named) => named.remove().await,
            Self::UpstreamKey(command) => command.run().await,
            Self::Apply(apply) => apply.run().await,
            Self::Delete(which) => which.delete().await,
            Self::Reopen(which) => which.reopen().await,
        }
    }
}

async fn all(at: &AdminAt) -> Result<(), String> {
    let tenants = list(at, "/admin/v1/tenants", "tenants").await?;
    if at.json {
        print_json(&json!({ "tenants": tenants, "next": null }));
    } else {
        print!("{}", view::tenants(&tenants));
    }
    Ok(())
}

impl Create {
    async fn run(self) -> Result<(), String> {
        let Self { name, terms, upstream_key_env, upstream_key_file, adopt_data, at } = self;
        let mut body = terms.patch(Vec::new())?;
        if adopt_data {
            body.insert("adopt_data".to_owned(), true.into());
        }
        body.insert("name".to_owned(), name.into());
        if upstream_key_env.is_some() || upstream_key_file.is_some() {
            let key = credential("--upstream-key-", upstream_key_env, upstream_key_file)?;
            body.insert("upstream_api_key".to_owned(), key.as_str().into());
        }
        let made = ask(&at, Method::POST, "/admin/v1/tenants", Some(&body.into())).await?;
        shown(&made, &at);
        Ok(())
    }
}

impl Set {
    async fn run(self) -> Result<(), String> {
        let path = tenant_path(&self.name, "");
        let patch = self.patch(&path).await?;
        let changed = match try_to(&self.at, Method::PATCH, &path, Some(&patch)).await {
            // Somebody was faster: once more from what is there now.
            Err(Refusal { status: Some(StatusCode::PRECONDITION_FAILED), .. }) => {
                let patch = self.patch(&path).await?;
                ask(&self.at, Method::PATCH, &path, Some(&patch)).await?
            }
            done => done?,
        };
        shown(&changed, &self.at);
        Ok(())
    }

    async fn patch(&self, path: &str) -> Result<Value, String> {
        let Self { name, terms, at } = self;
        // A list is replaced as a whole, so what is there must be known to change a part of it, and still be there then.
        let (budgets, seen) = if terms.budgets.is_empty() {
            (Vec::new(), None)
        } else {
            let view = ask(at, Method::GET, path, None).await?;
            let budgets = view.pointer("/spec/budgets").cloned().unwrap_or_else(|| json!([]));
            let budgets = serde_json::from_value(budgets)
                .map_err(|error| format!("the budgets of {name} cannot be read: {error}"))?;
            (budgets, view.get("updated_at").filter(|at| at.is_u64()).cloned())
        };
        let mut patch = terms.clone().patch(budgets)?;
        if patch.is_empty() {
            return Err("nothing to change; `remora tenant set --help` shows what can be".to_owned());
        }
        if let Some(seen) = seen {
            patch.insert("if_updated_at".to_owned(), seen);
        }
        Ok(patch.into())
    }
}

impl Terms {
    /// What was given as a merge patch. `budgets` are those there are.
    fn patch(self, budgets: Vec<Budget>) -> Result<Map<String, Value>, String> {
        let Self { limits, budgets: wishes, policy } = self;
        let mut patch = Map::new();
        limits.patch(&mut patch);
        policy.patch(&mut patch);
        if !wishes.is_empty() {
            patch.insert("budgets".to_owned(), json!(wishes.onto(budgets)?));
        }
        Ok(patch)
    }
}

impl Named {
    async fn show(self) -> Result<(), String> {
        let Self { name, at } = self;
        let tenant = ask(&at, Method::GET, &tenant_path(&name, ""), None).await?;
        let keys = list(&at, &tenant_path(&name, "/keys"), "keys").await?;
        if at.json {
            print_json(&json!({ "tenant": tenant, "keys": keys }));
        } else {
            print!("{}", view::tenant(&tenant, &keys));
        }
        Ok(())
    }

    async fn switch(self, enabled: bool) -> Result<(), String> {
        let Self { name, at } = self;
        let patch = json!({ "enabled": enabled });
        let changed = ask(&at, Method::PATCH, &tenant_path(&name, ""), Some(&patch)).await?;
        if at.json {
            print_json(&changed);
        } else if enabled {
            println!("{name} is enabled: its keys are accepted.");
        } else {
            println!("{name} is disabled: its keys are refused. `remora tenant enable {name}` is the way back.");
        }
        Ok(())
    }

    async fn remove(self) -> Result<(), String> {
        let Self { name, at } = self;
        let removed = ask(&at, Method::DELETE, &tenant_path(&name, ""), None).await?;
        if at.json {
            print_json(&removed);
        } else {
            println!(
                "{name} and its keys are removed. Stored answers and ledger rows stay; `remora tenant delete` deletes answers."
            );
        }
        Ok(())
    }
}

impl UpstreamKey {
    async fn run(self) -> Result<(), String> {
        let (method, body, at, name, told) = match self {
            Self::Set(SetUpstreamKey { name, env, file, at }) => {
                let body = json!({ "api_key": credential("--", env, file)?.as_str() });
                (Method::PUT, Some(body), at, name, "has its own upstream credential now")
            }
            Self::Remove(Named { name, at }) => (
                Method::DELETE,
                None,
                at,
                name,
                "has no upstream credential of its own any more: the shared one is sent",
            ),
        };
        let done = ask(&at, method, &tenant_path(&name, "/upstream-key"), body.as_ref()).await?;
        if at.json {
            print_json(&done);
        } else {
            println!("{name} {told}.");
        }
        Ok(())
    }
}

fn shown(tenant: &Value, at: &AdminAt) {
    if at.json {
        print_json(tenant);
    } else {
        print!("{}", view::tenant(tenant, &[]));
    }
}

/// A credential from where it is safe: arguments can be seen by everybody on the machine.
fn credential(option: &str, variable: Option<String>, file: Option<PathBuf>) -> Result<Zeroizing<String>, String> {
    let text = match (variable, file) {
        (Some(name), _) => Zeroizing::new(
            std::env::var(&name)
                .map_err(|_| format!("{option}env: the environment variable that is named there is not set"))?,
        ),
        (None, Some(path)) => Zeroizing::new(
            std::fs::read_to_string(&path).map_err(|error| format!("{option}file {}: {error}", path.display()))?,
        ),
        (None, None) => return Err(format!("give {option}env or {option}file")),
    };
    let text = Zeroizing::new(text.trim().to_owned());
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the credential is empty or has characters that cannot be sent in a header".to_owned());
    }
    Ok(text)
}
